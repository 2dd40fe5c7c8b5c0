"""This client against two relays that run: everything that docs/protocol.md says a client can do, done.

`POSTRIDER_RELAYS` in the environment says where they are, as a JSON list of objects with `domain`, `url`, and `pin` or
`authorities`, and `address` where the host is not in DNS. tests/tests/interop.rs starts such relays and runs this file.
"""

from __future__ import annotations

import json
import os
import time
import unittest
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from postrider import wire
from postrider.attachment import MAX_CHUNK, Progress, chunk_of, digest_of
from postrider.connection import Place, Untrusted
from postrider.envelope import compose
from postrider.identity import Identity, to_base32
from postrider.moving import move
from postrider.problem import Problem, patiently
from postrider.relay import Relay, Session
from postrider.stream import Stream, StreamEnded

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which something will not happen any more: far more than it ever takes."""


def relays() -> list[Relay]:
    given = json.loads(os.environ["POSTRIDER_RELAYS"])
    return [Relay(each["domain"], place(each)) for each in given]


def place(given: dict[str, str]) -> Place:
    host, _, port = given["address"].rpartition(":")
    return Place(given["url"], given.get("pin"), given.get("authorities"), (host, int(port)))


@dataclass
class User:
    """Somebody with a mailbox at a relay."""

    relay: Relay
    identity: Identity
    session: Session

    @staticmethod
    def at(relay: Relay, identity: Identity | None = None) -> User:
        identity = identity or Identity.generate()
        session = relay.sign_in(identity)
        session.register()
        return User(relay, identity, session)

    def another_device(self) -> User:
        return User.at(self.relay, self.identity.another_device())

    def write(self, text: str, lives: int = 3_600, urgency: wire.Urgency = wire.Urgency.NORMAL) -> wire.Envelope:
        """An envelope for this user. What a real one has in it is encrypted."""
        return compose(self.identity.mailbox, text.encode(), lives, urgency=urgency)

    def address(self, envelope: wire.Envelope) -> wire.Item:
        return wire.Item(self.relay.domain, envelope.encode())

    def texts(self) -> list[str]:
        """What waits for this device, acknowledged."""
        texts = []
        while entries := self.session.poll():
            texts += [text_of(entry.envelope) for entry in entries]
            self.session.acknowledge([entry.id for entry in entries])
        return texts


def text_of(envelope: wire.Envelope) -> str:
    return envelope.body.rstrip(b"\0").decode()


def receive(stream: Stream) -> list[wire.Entry]:
    delivery = stream.receive(PATIENCE)
    assert isinstance(delivery, wire.Entries), delivery
    return list(delivery.entries)


def receive_many(stream: Stream, count: int) -> list[wire.Entry]:
    entries: list[wire.Entry] = []
    while len(entries) < count:
        entries += receive(stream)
    return entries


def eventually(ask: Callable[[], T], wanted: Callable[[T], bool]) -> T:
    """Tracking has no notification: this asks, with growing pauses, until the answer is as wanted."""
    until, pause = time.monotonic() + PATIENCE, 0.02
    while not wanted(answer := ask()):
        assert time.monotonic() < until, f"still {answer}"
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
    return answer


class WithRelays(unittest.TestCase):
    def setUp(self) -> None:
        self.alpha, self.beta = relays()
        self.addCleanup(self.alpha.close)
        self.addCleanup(self.beta.close)

    def open(self, session: Session) -> Stream:
        stream = session.stream()
        self.addCleanup(stream.close)
        return stream

    def submit(self, through: Relay, to: User, envelope: wire.Envelope) -> wire.Result:
        (result,) = through.submit([to.address(envelope)])
        return result

    def refused(self, word: str, status: int, call: Callable[[], object]) -> Problem:
        with self.assertRaises(Problem) as raised:
            call()
        problem = raised.exception
        self.assertEqual((problem.word, problem.status), (word, status), str(problem))
        return problem

    def until_stored(self, through: Relay, tracking: bytes) -> dict[str, object]:
        return eventually(lambda: through.tracking(tracking), lambda status: status["state"] != "queued")


class Connecting(WithRelays):
    def test_a_relay_says_who_it_is(self) -> None:
        for relay in (self.alpha, self.beta):
            info = relay.info()
            self.assertIn(1, info["client_protocol"])
            self.assertGreaterEqual(info["limits"]["body_bytes"], 512)
        with self.assertRaises(ValueError):
            Relay(self.beta.domain, self.alpha.place).info()

    def test_another_key_than_the_pinned_one_gets_nothing(self) -> None:
        stranger = Relay(self.alpha.domain, replace(self.alpha.place, pin="00" * 32))
        with self.assertRaises(Untrusted):
            stranger.info()

    def test_a_certificate_of_another_authority_gets_nothing(self) -> None:
        stranger = Relay(self.alpha.domain, replace(self.alpha.place, pin=None, authorities=None))
        with self.assertRaises(Untrusted):
            stranger.info()

    def test_what_is_no_call_is_refused(self) -> None:
        self.refused("not-found", 404, lambda: self.alpha.call("GET", "/v1/nothing"))
        self.refused("method-not-allowed", 405, lambda: self.alpha.call("GET", "/v1/envelopes"))
        self.refused("unsupported-media-type", 415, lambda: self.alpha.call("POST", "/v1/envelopes", b"", "text/plain"))
        token = User.at(self.alpha).session.token
        self.refused("upgrade-required", 426, lambda: self.alpha.call("GET", "/v1/mailbox/stream", token=token))
        for body, word in ((b"\0\0\0\1", "malformed"), (b"\0\0\0\2", "unsupported-version")):
            self.refused(word, 400, lambda: self.alpha.call("POST", "/v1/envelopes", body, wire.MEDIA_TYPE))


class SigningIn(WithRelays):
    def test_only_who_has_the_key_gets_a_session(self) -> None:
        mine, stranger = Identity.generate(), Identity.generate()
        nonce = bytes.fromhex(json.loads(self.alpha.call("POST", "/v1/challenges"))["nonce"])
        request = {
            "mailbox": to_base32(mine.mailbox),
            "device": to_base32(mine.device),
            "nonce": nonce.hex(),
            "signature": stranger.sign_session(self.alpha.domain, nonce).hex(),
        }
        self.refused("proof-refused", 403, lambda: self.alpha.call_json("POST", "/v1/sessions", request))

    def test_a_challenge_counts_once_and_at_one_relay(self) -> None:
        mine = Identity.generate()

        def prove(domain: str, nonce: bytes) -> bytes:
            request = {
                "mailbox": to_base32(mine.mailbox),
                "device": to_base32(mine.device),
                "nonce": nonce.hex(),
                "signature": mine.sign_session(domain, nonce).hex(),
            }
            return self.alpha.call_json("POST", "/v1/sessions", request)

        def challenge() -> bytes:
            return bytes.fromhex(json.loads(self.alpha.call("POST", "/v1/challenges"))["nonce"])

        nonce = challenge()
        self.assertIn("token", json.loads(prove(self.alpha.domain, nonce)))
        self.refused("proof-refused", 403, lambda: prove(self.alpha.domain, nonce))
        self.refused("proof-refused", 403, lambda: prove(self.beta.domain, challenge()))

    def test_a_token_that_is_none_is_refused(self) -> None:
        session = Session(self.alpha, Identity.generate(), "nonsense", 0)
        self.refused("unauthenticated", 401, session.devices)
        self.refused("unauthenticated", 401, session.stream)
        self.refused("unauthenticated", 401, session.register)


class Registering(WithRelays):
    def test_devices_are_listed_in_their_order(self) -> None:
        session = self.alpha.sign_in(Identity.generate())
        self.refused("no-such-mailbox", 404, session.devices)
        self.refused("no-such-mailbox", 404, session.stream)
        self.assertTrue(session.register())
        self.assertFalse(session.register())
        first = User(self.alpha, session.identity, session)
        second = first.another_device()
        devices = session.devices()
        self.assertEqual([device.id for device in devices], [first.identity.device, second.identity.device])
        for device in devices:
            self.assertLess(device.last_contact, device.removed_at)
        unregistered = self.alpha.sign_in(first.identity.another_device())
        self.refused("no-such-device", 403, unregistered.poll)

    def test_devices_are_named_and_removed(self) -> None:
        phone = User.at(self.alpha)
        laptop = phone.another_device()
        phone.session.name_device(laptop.identity.device, b"a ciphertext")
        self.assertEqual([device.name for device in phone.session.devices()], [None, b"a ciphertext"])
        stream = self.open(laptop.session)
        phone.session.remove_device(laptop.identity.device)
        with self.assertRaises(StreamEnded) as ended:
            receive(stream)
        self.assertEqual(ended.exception.code, 1008)
        self.refused("no-such-device", 403, laptop.session.poll)
        self.refused("unknown-device", 404, lambda: phone.session.remove_device(laptop.identity.device))
        self.assertEqual(len(phone.session.devices()), 1)

    def test_a_deleted_mailbox_is_gone_at_once(self) -> None:
        alice = User.at(self.alpha)
        stream = self.open(alice.session)
        alice.session.delete()
        with self.assertRaises(StreamEnded) as ended:
            receive(stream)
        self.assertEqual(ended.exception.code, 1008)
        self.refused("no-such-mailbox", 404, alice.session.devices)
        result = self.submit(self.alpha, alice, alice.write("too late"))
        self.assertEqual(result, wire.Refused("no-such-mailbox", None))


class Submitting(WithRelays):
    def test_a_repetition_is_kept_once(self) -> None:
        bob = User.at(self.beta)
        envelope = bob.write("once")
        for _ in range(3):
            self.assertEqual(self.submit(self.beta, bob, envelope), wire.Stored())
        self.assertEqual(bob.texts(), ["once"])

    def test_as_a_member(self) -> None:
        alice, bob = User.at(self.beta), User.at(self.beta)
        self.assertEqual(alice.session.submit([bob.address(bob.write("from a member"))]), (wire.Stored(),))
        self.assertEqual(bob.texts(), ["from a member"])

    def test_between_relays(self) -> None:
        bob = User.at(self.beta)
        envelope = bob.write("from afar")
        first, second = (patiently(lambda: self.submit(self.alpha, bob, envelope)) for _ in range(2))
        self.assertEqual(first, second)
        assert isinstance(first, wire.Queued)
        status = self.until_stored(self.alpha, first.tracking)
        self.assertEqual((status["state"], status["destination"]), ("stored", self.beta.domain))
        self.assertEqual(bob.texts(), ["from afar"])

    def test_one_that_is_refused_does_not_touch_the_others(self) -> None:
        bob, nobody = User.at(self.beta), Identity.generate()
        good = bob.address(bob.write("good"))
        limits = self.beta.info()["limits"]
        sent: list[tuple[wire.Item, wire.Result]] = [
            (replace(good, envelope=good.envelope[:-1]), wire.Refused("malformed", None)),
            (replace(good, envelope=b"\0\0\0\2" + good.envelope[4:]), wire.Refused("version-unsupported", None)),
            (replace(good, domain="not a domain"), wire.Refused("malformed", None)),
            (replace(good, domain="unknown.example"), wire.Refused("policy-denied-here", None)),
            (good, wire.Stored()),
            (bob.address(replace(bob.write(""), mailbox=nobody.mailbox)), wire.Refused("no-such-mailbox", None)),
            (bob.address(replace(bob.write(""), device=nobody.device)), wire.Refused("no-such-device", None)),
            (bob.address(replace(bob.write(""), expires_at=1)), wire.Refused("expired", None)),
            (bob.address(bob.write("", lives=61 * 86_400)), wire.Refused("lifetime-too-long", None)),
            (
                bob.address(replace(bob.write(""), body=bytes(limits["body_bytes"] + 1))),
                wire.Refused("too-large", None),
            ),
        ]
        results = self.beta.submit([item for item, _ in sent])
        for (item, expected), result in zip(sent, results, strict=True):
            self.assertEqual(result, expected, item)
        self.assertEqual(bob.texts(), ["good"])

    def test_more_than_a_batch_is_refused_whole(self) -> None:
        bob = User.at(self.beta)
        item = bob.address(bob.write("one of too many"))
        too_many = [item] * (self.beta.info()["limits"]["batch_envelopes"] + 1)
        self.refused("too-large", 413, lambda: self.beta.submit(too_many))
        self.assertEqual(bob.texts(), [])

    def test_a_failure_is_told(self) -> None:
        nobody = User(self.beta, identity := Identity.generate(), self.beta.sign_in(identity))
        result = self.submit(self.alpha, nobody, nobody.write("to nobody"))
        assert isinstance(result, wire.Queued)
        status = self.until_stored(self.alpha, result.tracking)
        self.assertEqual((status["state"], status["reason"]), ("failed", "no-such-mailbox"))
        self.refused("unknown-tracking", 404, lambda: self.alpha.tracking(os.urandom(16)))


class Attaching(WithRelays):
    def bring(self, through: Relay, content: bytes, progress: Progress) -> None:
        """Whatever is missing, the last chunk first."""
        for number in reversed(list(progress.chunks())):
            chunk = chunk_of(content, progress.attachment, number)
            through.put_chunk(progress.attachment.id, number, chunk)

    def test_in_chunks_of_any_order_to_another_relay(self) -> None:
        bob, content = User.at(self.beta), os.urandom(5 * 16_384 + 77)
        reserved = self.alpha.reserve(len(content), 16_384)
        attachment = reserved.attachment
        self.assertEqual((attachment.length, reserved.missing), (len(content), ((0, 5),)))
        for number in (5, 3):
            self.alpha.put_chunk(attachment.id, number, chunk_of(content, attachment, number))
        envelope = replace(bob.write("see attachment"), attachments=(attachment,))
        self.assertEqual(self.submit(self.alpha, bob, envelope), wire.Refused("attachment-missing", None))
        self.refused("attachment-incomplete", 409, lambda: self.alpha.fetch(attachment.id))

        # As after an interruption.
        progress = self.alpha.progress(attachment.id)
        self.assertEqual(progress, replace(reserved, missing=((0, 2), (4, 4))))
        self.bring(self.alpha, content, progress)
        self.bring(self.alpha, content, progress)  # What is there already changes nothing.
        self.assertEqual(self.alpha.progress(attachment.id).missing, ())
        result = self.submit(self.alpha, bob, envelope)
        assert isinstance(result, wire.Queued)
        self.assertEqual(self.until_stored(self.alpha, result.tracking)["state"], "stored")
        self.refused("unknown-attachment", 404, lambda: self.alpha.progress(attachment.id))

        (entry,) = bob.session.poll(wait=60)
        self.assertEqual(entry.envelope.attachments, (attachment,))
        self.assertEqual(self.beta.attachment_length(attachment.id), len(content))
        parts = [
            self.beta.fetch(attachment.id, 0, 9_999),
            self.beta.fetch(attachment.id, 10_000, 60_000),
            self.beta.fetch(attachment.id, 60_001),
        ]
        self.assertEqual(b"".join(parts), content)
        self.assertEqual(self.beta.fetch(attachment.id), content)
        self.refused("range-not-satisfiable", 416, lambda: self.beta.fetch(attachment.id, len(content)))
        self.refused("attachment-in-use", 409, lambda: self.beta.give_up(attachment.id))
        bob.session.acknowledge([entry.id])
        self.refused("unknown-attachment", 404, lambda: self.beta.fetch(attachment.id))

    def test_several_envelopes_with_one_attachment(self) -> None:
        users = [User.at(self.beta), User.at(self.beta)]
        reserved = self.beta.reserve(3, 3)
        self.bring(self.beta, b"abc", reserved)
        envelopes = [replace(user.write("both"), attachments=(reserved.attachment,)) for user in users]
        items = [user.address(envelope) for user, envelope in zip(users, envelopes, strict=True)]
        self.assertEqual(self.beta.submit(items), (wire.Stored(), wire.Stored()))
        for user in users:
            self.assertEqual(self.beta.fetch(reserved.attachment.id), b"abc")
            self.assertEqual(user.texts(), ["both"])
        self.refused("unknown-attachment", 404, lambda: self.beta.fetch(reserved.attachment.id))

    def test_what_is_wrong_is_refused(self) -> None:
        most = self.alpha.info()["limits"]["attachment_bytes"]
        self.refused("too-large", 413, lambda: self.alpha.reserve(most + 1, MAX_CHUNK))
        self.refused("malformed", 400, lambda: self.alpha.reserve(0, 1))
        self.refused("malformed", 400, lambda: self.alpha.reserve(10, MAX_CHUNK + 1))
        id = self.alpha.reserve(10, 4).attachment.id
        self.refused("malformed", 400, lambda: self.alpha.put_chunk(id, 0, b"abcd", digest="sha-256=abc"))
        self.refused("malformed", 400, lambda: self.alpha.put_chunk(id, 0, b"abc"))
        wrong = digest_of(b"efgh")
        self.refused("wrong-digest", 400, lambda: self.alpha.put_chunk(id, 0, b"abcd", digest=wrong))
        self.refused("no-such-chunk", 404, lambda: self.alpha.put_chunk(id, 3, b"ab"))
        self.alpha.put_chunk(id, 0, b"abcd")
        self.refused("chunk-differs", 409, lambda: self.alpha.put_chunk(id, 0, b"efgh"))
        self.alpha.give_up(id)
        self.refused("unknown-attachment", 404, lambda: self.alpha.give_up(id))
        self.refused("unknown-attachment", 404, lambda: self.alpha.put_chunk(id, 0, b"abcd"))


class Receiving(WithRelays):
    def test_by_stream_as_it_arrives(self) -> None:
        bob = User.at(self.beta)
        self.submit(self.beta, bob, bob.write("waiting"))
        stream = self.open(bob.session)
        (first,) = receive(stream)
        self.submit(self.alpha, bob, bob.write("arriving"))
        (second,) = receive(stream)
        self.assertEqual([text_of(entry.envelope) for entry in (first, second)], ["waiting", "arriving"])
        self.assertLess(first.id, second.id)

    def test_what_was_not_acknowledged_comes_again(self) -> None:
        bob = User.at(self.beta)
        for text in ("kept", "taken"):
            self.submit(self.beta, bob, bob.write(text))
        with bob.session.stream() as stream:
            kept, taken = receive_many(stream, 2)
            stream.acknowledge([taken.id, 123_456_789])
            # The relay reads in order: when it answers to this, it has heard the acknowledgement.
            stream.send_raw("no message of a device")
            with self.assertRaises(StreamEnded) as ended:
                receive(stream)
            self.assertEqual(ended.exception.code, 1003)
        with bob.session.stream() as stream:
            self.assertEqual(receive(stream), [kept])
        bob.session.acknowledge([kept.id])
        self.assertEqual(bob.texts(), [])

    def test_by_long_poll(self) -> None:
        bob = User.at(self.beta)
        self.assertEqual(bob.session.poll(), ())
        self.submit(self.alpha, bob, bob.write("first"))
        (first,) = bob.session.poll(wait=60)
        self.assertEqual(bob.session.poll(after=first.id), ())
        self.submit(self.beta, bob, bob.write("second"))
        (second,) = bob.session.poll(after=first.id, wait=60)
        self.assertEqual(bob.session.poll(), (first, second))
        bob.session.acknowledge([first.id, second.id])
        self.assertEqual(bob.session.poll(), ())

    def test_the_window_gives_the_device_time(self) -> None:
        bob, count, window = User.at(self.beta), 300, 256
        items = [bob.address(bob.write(str(number))) for number in range(count)]
        for some in (items[:window], items[window:]):
            self.assertEqual(set(self.beta.submit(some)), {wire.Stored()})
        stream = self.open(bob.session)
        entries = receive_many(stream, window)
        self.assertEqual(len(entries), window)
        with self.assertRaises(TimeoutError):
            stream.receive(1.0)
        stream.acknowledge([entry.id for entry in entries])
        entries += receive_many(stream, count - window)
        self.assertEqual([text_of(entry.envelope) for entry in entries], [str(number) for number in range(count)])

    def test_every_device_gets_its_own(self) -> None:
        phone = User.at(self.beta)
        laptop = phone.another_device()
        self.submit(self.alpha, phone, phone.write("for all"))
        self.submit(self.alpha, phone, replace(phone.write("for one"), device=laptop.identity.device))
        stream = self.open(laptop.session)
        # Between relays what is sent later may be there first.
        texts = [text_of(entry.envelope) for entry in receive_many(stream, 2)]
        self.assertCountEqual(texts, ["for all", "for one"])
        self.assertEqual(phone.texts(), ["for all"])

    def test_ephemeral_envelopes_reach_who_is_there(self) -> None:
        bob = User.at(self.beta)
        for through in (self.alpha, self.beta):
            result = self.submit(through, bob, bob.write("typing", urgency=wire.Urgency.EPHEMERAL))
            self.assertEqual(result, wire.Refused("not-connected", None))
        stream = self.open(bob.session)
        for through in (self.alpha, self.beta):
            result = self.submit(through, bob, bob.write("typing", urgency=wire.Urgency.EPHEMERAL))
            self.assertEqual(result, wire.Stored())
            delivery = stream.receive(PATIENCE)
            assert isinstance(delivery, wire.Ephemeral)
            self.assertEqual(text_of(delivery.envelope), "typing")
        self.assertEqual(bob.texts(), [])

    def test_a_second_stream_ends_the_first(self) -> None:
        bob = User.at(self.beta)
        first, second = self.open(bob.session), self.open(bob.session)
        with self.assertRaises(StreamEnded) as ended:
            receive(first)
        self.assertEqual(ended.exception.code, 1008)
        self.submit(self.beta, bob, bob.write("to the second"))
        self.assertEqual(len(receive(second)), 1)


class Moving(WithRelays):
    def test_what_waits_goes_along_and_who_writes_is_followed(self) -> None:
        phone = User.at(self.beta)
        laptop = phone.another_device()
        self.submit(self.beta, phone, phone.write("before"))
        self.assertIsNone(phone.session.binding())

        move(phone.identity, self.beta, self.alpha)
        move(phone.identity, self.beta, self.alpha)  # as after an answer that was lost

        problem = self.refused("moved", 410, phone.session.poll)
        self.assertEqual(problem.domain, self.alpha.domain)
        self.submit(self.alpha, phone, phone.write("to the old address"))
        self.submit(self.beta, phone, phone.write("through the old relay"))
        for device in (phone, laptop):
            stream = self.open(self.alpha.sign_in(device.identity))
            texts = {text_of(entry.envelope) for entry in receive_many(stream, 3)}
            self.assertEqual(texts, {"before", "to the old address", "through the old relay"})

    def test_an_old_binding_or_a_strangers_does_not_count(self) -> None:
        bob, stranger = User.at(self.beta), Identity.generate()
        newer, older = (bob.identity.sign_binding(self.beta.domain, serial) for serial in (7, 6))
        bob.session.bind(newer)
        bob.session.bind(newer)
        self.refused("binding-outdated", 409, lambda: bob.session.bind(older))
        self.refused("binding-refused", 403, lambda: bob.session.bind(stranger.sign_binding(self.beta.domain, 8)))
        self.assertEqual(bob.session.binding(), newer)


if __name__ == "__main__":
    unittest.main()
