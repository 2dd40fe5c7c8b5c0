"""The wire form, to the byte: envelopes, submissions, results, and what goes over a mailbox's stream.

docs/protocol.md, "Wire form, to the byte". The messages come first; `Writer` and `Reader` below know the types that
they are made of. Bytes that are not exactly the message that is expected raise `Malformed`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

MEDIA_TYPE = "application/vnd.postrider.v1+bincode"
VERSION = 1

SHORT_ID = 16  # bytes of an envelope's id and of a tracking id
LONG_ID = 32  # bytes of a mailbox, a device and an attachment's id

# More than this no version reads. A relay takes less, and says so at /.well-known/postrider.
MAX_MESSAGE = 8_388_608
MAX_ENVELOPE = 1_048_576
MAX_ELEMENTS = 1_024
MAX_ATTACHMENTS = 16
MAX_REASON = 40


class Malformed(ValueError):
    """The bytes are not the message that is expected here."""


class Urgency(enum.IntEnum):
    NORMAL = 0
    URGENT = 1
    EPHEMERAL = 2


@dataclass(frozen=True)
class Attachment:
    id: bytes
    length: int
    chunk_length: int


@dataclass(frozen=True)
class Envelope:
    """What is submitted and delivered. Encode it once and keep the bytes: a repetition sends the same ones."""

    id: bytes
    mailbox: bytes
    expires_at: int
    body: bytes
    device: bytes | None = None
    urgency: Urgency = Urgency.NORMAL
    header: bytes = b""
    attachments: tuple[Attachment, ...] = ()

    def encode(self) -> bytes:
        out = Writer()
        out.u32(VERSION)
        out.identifier(self.id, SHORT_ID)
        out.identifier(self.mailbox, LONG_ID)
        out.optional(self.device, lambda device: out.identifier(device, LONG_ID))
        out.u64(self.expires_at)
        out.u32(self.urgency)
        out.blob(self.header)
        out.blob(self.body)
        out.u64(len(self.attachments))
        for attachment in self.attachments:
            out.identifier(attachment.id, LONG_ID)
            out.u64(attachment.length)
            out.u32(attachment.chunk_length)
        return out.message()

    @staticmethod
    def decode(data: bytes) -> Envelope:
        if len(data) > MAX_ENVELOPE:
            raise Malformed(f"an envelope of {len(data)} bytes")
        read = Reader(data)
        read.version()
        envelope = Envelope(
            id=read.identifier(SHORT_ID),
            mailbox=read.identifier(LONG_ID),
            device=read.optional(lambda: read.identifier(LONG_ID)),
            expires_at=read.u64(),
            urgency=Urgency(read.variant(of=3)),
            header=read.blob(),
            body=read.blob(),
            attachments=read.list(
                lambda: Attachment(read.identifier(LONG_ID), read.u64(), read.u32()), MAX_ATTACHMENTS
            ),
        )
        read.end()
        if not envelope.body:
            raise Malformed("an envelope without a body")
        return envelope


@dataclass(frozen=True)
class Item:
    """One envelope to submit, as bytes, and the domain at which its recipient's mailbox is kept."""

    domain: str
    envelope: bytes


def encode_submission(items: Sequence[Item]) -> bytes:
    """The body of `POST /v1/envelopes`."""
    out = Writer()
    out.u32(VERSION)
    out.u64(len(items))
    for item in items:
        out.blob(item.domain.encode())
        out.blob(item.envelope)
    return out.message()


@dataclass(frozen=True)
class Stored:
    """It is in the recipient's mailbox."""


@dataclass(frozen=True)
class Queued:
    """It waits for another relay. `tracking` is what its fate can be asked by."""

    tracking: bytes


@dataclass(frozen=True)
class Refused:
    """It was not taken. With `retry_after` it may be sent again after so many seconds; without, never."""

    reason: str
    retry_after: int | None


Result = Stored | Queued | Refused


def decode_results(data: bytes) -> tuple[Result, ...]:
    """The answer to `POST /v1/envelopes`: a result for each item, in their order."""
    read = Reader(data)
    read.version()
    results = read.list(lambda: _result(read), MAX_ELEMENTS)
    read.end()
    return results


def _result(read: Reader) -> Result:
    variant = read.variant(of=3)
    if variant == 0:
        return Stored()
    if variant == 1:
        return Queued(read.identifier(SHORT_ID))
    return Refused(read.text(MAX_REASON), read.optional(read.u32))


@dataclass(frozen=True)
class Entry:
    """An envelope in a mailbox, with the number by which it is acknowledged."""

    id: int
    envelope: Envelope


@dataclass(frozen=True)
class Entries:
    """What is in the mailbox, oldest first. It comes again on later connections until it is acknowledged."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Ephemeral:
    """An envelope that is stored nowhere and not acknowledged."""

    envelope: Envelope


Delivery = Entries | Ephemeral


def decode_delivery(data: bytes) -> Delivery:
    """A message from the relay to a device, over the stream or by long poll."""
    read = Reader(data)
    read.version()
    delivery: Delivery
    if read.variant(of=2) == 0:
        delivery = Entries(read.list(lambda: Entry(read.u64(), Envelope.decode(read.blob())), MAX_ELEMENTS))
    else:
        delivery = Ephemeral(Envelope.decode(read.blob()))
    read.end()
    return delivery


def encode_acknowledgement(entries: Sequence[int]) -> bytes:
    """A message from the device to its relay: it has these entries on stable storage of its own."""
    out = Writer()
    out.u32(VERSION)
    out.u32(0)  # Acknowledge, the only variant
    out.u64(len(entries))
    for entry in entries:
        out.u64(entry)
    return out.message()


class Writer:
    """Puts values behind one another."""

    def __init__(self) -> None:
        self._out = bytearray()

    def u32(self, value: int) -> None:
        self._out += value.to_bytes(4, "big")

    def u64(self, value: int) -> None:
        self._out += value.to_bytes(8, "big")

    def identifier(self, value: bytes, length: int) -> None:
        if len(value) != length:
            raise ValueError(f"an identifier of {len(value)} bytes where {length} belong")
        self._out += value

    def optional(self, value: T | None, write: Callable[[T], None]) -> None:
        self._out.append(0 if value is None else 1)
        if value is not None:
            write(value)

    def blob(self, value: bytes) -> None:
        self.u64(len(value))
        self._out += value

    def message(self) -> bytes:
        return bytes(self._out)


class Reader:
    """Takes values off the front of a message, and nothing that is not there."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_MESSAGE:
            raise Malformed(f"a message of {len(data)} bytes")
        self._rest = memoryview(data)

    def version(self) -> None:
        version = self.u32()
        if version != VERSION:
            raise Malformed(f"a message of version {version}")

    def u32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def variant(self, of: int) -> int:
        variant = self.u32()
        if variant >= of:
            raise Malformed(f"variant {variant} of {of}")
        return variant

    def identifier(self, length: int) -> bytes:
        return self._take(length)

    def optional(self, read: Callable[[], T]) -> T | None:
        match self._take(1):
            case b"\0":
                return None
            case b"\1":
                return read()
            case other:
                raise Malformed(f"{other.hex()} where 00 or 01 belongs")

    def blob(self) -> bytes:
        return self._take(self.u64())

    def text(self, longest: int) -> str:
        value = self.blob()
        if len(value) > longest:
            raise Malformed(f"a text of {len(value)} bytes")
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed("a text that is not UTF-8") from error

    def list(self, read: Callable[[], T], longest: int) -> tuple[T, ...]:
        length = self.u64()
        if length > longest:
            raise Malformed(f"a list of {length} elements")
        return tuple(read() for _ in range(length))

    def end(self) -> None:
        if self._rest:
            raise Malformed(f"{len(self._rest)} bytes behind the message")

    def _take(self, length: int) -> bytes:
        if length > len(self._rest):
            raise Malformed(f"{length} bytes belong where {len(self._rest)} are left")
        taken, self._rest = self._rest[:length], self._rest[length:]
        return bytes(taken)
