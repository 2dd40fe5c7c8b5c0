"""A device's stream: docs/protocol.md, "Stream"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from . import wire
from .connection import Place
from .problem import Problem, Unanswered

class StreamEnded(ConnectionError):
    """The relay has ended the stream. `code` says why, and `text` which of its reasons; None: the connection broke."""

    def __init__(self, code: int | None, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{code}: {text}")


class Stream:
    """Iterating gives what the relay pushes. What is not acknowledged comes again on the next stream."""

    def __init__(self, place: Place, token: str) -> None:
        connection = place.connect()  # TLS is there already: the key is checked before the token is sent
        self._closing = ExitStack()
        try:
            opening = connect(
                f"ws://{place.host}/v1/mailbox/stream",
                sock=connection,
                additional_headers={"Authorization": f"Bearer {token}"},
                compression=None,
                max_size=wire.MAX_MESSAGE,
                # A relay from which nothing has come for 90 s is given up: `receive` ends with `StreamEnded`.
                ping_interval=30,
                ping_timeout=60,
            )
            self._socket = self._closing.enter_context(opening)
        except InvalidStatus as refused:
            response = refused.response
            raise Problem(response.status_code, bytes(response.body), response.headers.get("Retry-After")) from refused
        except (OSError, InvalidHandshake) as error:
            raise Unanswered(f"no stream: {error}") from error

    def receive(self, timeout: float | None = None) -> wire.Delivery:
        """The next message. `TimeoutError` after so many seconds without one, if a number is given."""
        try:
            message = self._socket.recv(timeout)
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                raise StreamEnded(None, "the connection broke") from closed
            raise StreamEnded(closed.rcvd.code, closed.rcvd.reason) from closed
        if isinstance(message, str):
            raise wire.Malformed("a message of text")
        return wire.decode_delivery(message)

    def __iter__(self) -> Iterator[wire.Delivery]:
        while True:
            yield self.receive()

    def acknowledge(self, entries: Sequence[int]) -> None:
        """Nothing answers it. If it gets lost, the entries come again."""
        self._socket.send(wire.encode_acknowledgement(entries))

    def send_raw(self, message: str | bytes) -> None:
        """Something that may be no message of a device, to see what the relay says of it."""
        self._socket.send(message)

    def close(self) -> None:
        self._closing.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
