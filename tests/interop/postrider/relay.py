"""The calls of the client API: docs/protocol.md, "Client API". `Relay` needs no key; `Session` acts for a mailbox."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

from . import wire
from .attachment import Progress, digest_of, path_of
from .connection import Connection, Place
from .identity import Binding, Identity, from_base32, to_base32
from .invite import Invite
from .problem import Problem, Unanswered
from .stream import Stream

Json = dict[str, Any]


class Relay:
    """A relay, as anybody sees it."""

    def __init__(self, domain: str, place: Place) -> None:
        self.domain = domain
        self.place = place
        self._connection = Connection(place)

    def info(self) -> Json:
        """Who the relay is and what it takes. That it says another domain is no reason to believe it."""
        info = self.get_json("/.well-known/postrider")
        if info["domain"] != self.domain:
            raise ValueError(f"{self.place.url} is the relay of {info['domain']}, not of {self.domain}")
        return info

    def submit(self, items: Sequence[wire.Item], token: str | None = None) -> tuple[wire.Result, ...]:
        """What is stored or queued is on stable storage. One item that is refused does not touch the others. A token is
        for relays that take envelopes from their members only: `Session.submit`."""
        answer = self.call("POST", "/v1/envelopes", wire.encode_submission(items), wire.MEDIA_TYPE, token)
        results = wire.decode_results(answer)
        if len(results) != len(items):
            raise wire.Malformed(f"{len(results)} results for {len(items)} envelopes")
        return results

    def tracking(self, tracking: bytes) -> Json:
        """What became of a queued envelope, as far as this relay knows."""
        return self.get_json(f"/v1/tracking/{to_base32(tracking)}")

    def sign_in(self, identity: Identity) -> Session:
        """Proves that we have the mailbox's key. A repetition begins with a new challenge."""
        challenge = json.loads(self.call("POST", "/v1/challenges"))
        nonce = bytes.fromhex(challenge["nonce"])
        request = {
            "mailbox": to_base32(identity.mailbox),
            "device": to_base32(identity.device),
            "nonce": nonce.hex(),
            "signature": identity.sign_session(self.domain, nonce).hex(),
        }
        granted = json.loads(self.call_json("POST", "/v1/sessions", request))
        return Session(self, identity, granted["token"], granted["expires_at"])

    def reserve(self, length: int, chunk_length: int, token: str | None = None) -> Progress:
        """Makes room for an attachment. A token is for relays where only members submit: `Session.reserve`."""
        wanted = {"length": length, "chunk_length": chunk_length}
        return Progress.read(json.loads(self.call_json("POST", "/v1/attachments", wanted, token)))

    def progress(self, attachment: bytes) -> Progress:
        """Which chunks are missing, for instance after an interruption."""
        return Progress.read(self.get_json(f"{path_of(attachment)}/chunks"))

    def put_chunk(self, attachment: bytes, number: int, chunk: bytes, digest: str | None = None) -> None:
        """Brings a chunk. It is on stable storage then; one that is there already is not read again."""
        headers = {"Content-Digest": digest_of(chunk) if digest is None else digest}
        try:
            self.exchange("PUT", f"{path_of(attachment)}/chunks/{number}", chunk, headers)
        finally:
            # The relay may have answered before it had read the chunk, and then it ends the connection.
            self._connection.close()

    def attachment_length(self, attachment: bytes) -> int:
        headers, _ = self.exchange("HEAD", path_of(attachment))
        return int(headers["Content-Length"])

    def fetch(self, attachment: bytes, first: int | None = None, last: int | None = None) -> bytes:
        """An attachment, or the bytes from `first` to `last`, both included; without `last` to the end."""
        if first is None:
            return self.call("GET", path_of(attachment))
        asked = f"bytes={first}-" + ("" if last is None else str(last))
        headers, part = self.exchange("GET", path_of(attachment), headers={"Range": asked})
        if not headers["Content-Range"].startswith(f"bytes {first}-{first + len(part) - 1}/"):
            raise wire.Malformed(f"asked for {asked}, answered with {headers['Content-Range']}")
        return part

    def give_up(self, attachment: bytes) -> None:
        """Deletes what was not submitted."""
        self.call("DELETE", path_of(attachment))

    def call(
        self, method: str, path: str, body: bytes = b"", media_type: str | None = None, token: str | None = None
    ) -> bytes:
        """One request and its answer. Whatever is not a success is raised."""
        headers = {}
        if media_type is not None:
            headers["Content-Type"] = media_type
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.exchange(method, path, body, headers)[1]

    def exchange(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[Message, bytes]:
        """The same with all headers, of both."""
        try:
            self._connection.request(method, path, body, dict(headers or {}))
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            # The next request makes a new connection.
            self._connection.close()
            raise Unanswered(f"{method} {path}: {error}") from error
        if 200 <= response.status < 300:
            return response.headers, answer
        raise Problem(response.status, answer, response.headers.get("Retry-After"))

    def call_json(self, method: str, path: str, document: Json, token: str | None = None) -> bytes:
        return self.call(method, path, json.dumps(document).encode(), "application/json", token)

    def get_json(self, path: str, token: str | None = None) -> Json:
        document = json.loads(self.call("GET", path, token=token))
        if not isinstance(document, dict):
            raise wire.Malformed("a JSON document that is no object")
        return document

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True)
class Device:
    """One of a mailbox's devices. If it stays away, it is removed at `removed_at`: tell the user in good time."""

    id: bytes
    name: bytes | None
    last_contact: int
    removed_at: int

    @staticmethod
    def read(document: Json) -> Device:
        name = document.get("name")
        return Device(
            id=from_base32(document["device"]),
            name=None if name is None else bytes.fromhex(name),
            last_contact=document["last_contact"],
            removed_at=document["removed_at"],
        )


@dataclass(frozen=True)
class Session:
    """A device that has proved whose it is. When a call answers `unauthenticated`, sign in again."""

    relay: Relay
    identity: Identity
    token: str
    expires_at: int

    def register(self, invite: Invite | None = None) -> bool:
        """Registers the mailbox with this device, or the device. A new mailbox takes an invite at most relays, which say
        `invite-needed`. Whether it is new."""
        if invite is None:
            answer = self._call("PUT", "/v1/mailbox")
        else:
            answer = self.relay.call_json("PUT", "/v1/mailbox", {"invite": invite.secret}, self.token)
        return bool(json.loads(answer)["created"])

    def delete(self) -> None:
        """Deletes the mailbox with everything in it."""
        self._call("DELETE", "/v1/mailbox")

    def submit(self, items: Sequence[wire.Item]) -> tuple[wire.Result, ...]:
        """Submits as a member, where `policies.submission` says that it has to be; the relay sees then who submits."""
        return self.relay.submit(items, self.token)

    def reserve(self, length: int, chunk_length: int) -> Progress:
        """Makes room for an attachment as a member."""
        return self.relay.reserve(length, chunk_length, self.token)

    def devices(self) -> list[Device]:
        answer = self.relay.get_json("/v1/mailbox/devices", self.token)
        return [Device.read(device) for device in answer["devices"]]

    def remove_device(self, device: bytes) -> None:
        """With what waits for it. Whoever has the mailbox's key can register it anew."""
        self._call("DELETE", f"/v1/mailbox/devices/{to_base32(device)}")

    def name_device(self, device: bytes, name: bytes) -> None:
        """What a device is called, encrypted by the owner's app. Empty: nothing."""
        path = f"/v1/mailbox/devices/{to_base32(device)}/name"
        self.relay.call_json("PUT", path, {"name": name.hex()}, self.token)

    def binding(self) -> Binding | None:
        """Where the mailbox has last said that it is kept. None: it never said so to this relay."""
        try:
            answer = self.relay.get_json("/v1/mailbox/binding", self.token)
        except Problem as problem:
            if problem.word == "no-binding":
                return None
            raise
        binding = Binding(answer["domain"], answer["serial"], bytes.fromhex(answer["signature"]))
        if not binding.is_of(self.identity.mailbox):
            raise ValueError("the relay shows a binding that this mailbox has not signed")
        return binding

    def bind(self, binding: Binding) -> None:
        document = {"domain": binding.domain, "serial": binding.serial, "signature": binding.signature.hex()}
        self.relay.call_json("PUT", "/v1/mailbox/binding", document, self.token)

    def stream(self) -> Stream:
        """Receives over a WebSocket: the relay pushes, this device acknowledges."""
        return Stream(self.relay.place, self.token)

    def poll(self, after: int | None = None, wait: int = 0) -> tuple[wire.Entry, ...]:
        """Receives by long poll, where WebSockets do not work. Nothing after at most `wait` seconds is no error."""
        query = f"?wait={wait}" + ("" if after is None else f"&after={after}")
        delivery = wire.decode_delivery(self._call("GET", f"/v1/mailbox/entries{query}"))
        if not isinstance(delivery, wire.Entries):
            raise wire.Malformed("an ephemeral envelope in a poll")
        return delivery.entries

    def acknowledge(self, entries: Sequence[int]) -> None:
        """Says by request that this device has the entries on stable storage of its own."""
        body = wire.encode_acknowledgement(entries)
        self._call("POST", "/v1/mailbox/acknowledgements", body, wire.MEDIA_TYPE)

    def _call(self, method: str, path: str, body: bytes = b"", media_type: str | None = None) -> bytes:
        return self.relay.call(method, path, body, media_type, self.token)
