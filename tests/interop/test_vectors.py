"""The examples of docs/protocol.md: this client reads and writes exactly these bytes. No relay is needed."""

from __future__ import annotations

import unittest
from pathlib import Path

from postrider import wire
from postrider.identity import Binding, Identity, binding_bytes, from_base32, session_proof, to_base32
from postrider.invite import Invite

VECTORS = Path(__file__).parents[2] / "docs" / "vectors"

IDENTITY = Identity(seed=bytes(range(32)), device=bytes(range(0x40, 0x60)))
EXPIRES_AT = 1_796_083_200
MINIMAL = wire.Envelope(id=bytes(range(16)), mailbox=IDENTITY.mailbox, expires_at=EXPIRES_AT, body=b"ciphertext")
FULL = wire.Envelope(
    id=bytes(range(0x10, 0x20)),
    mailbox=IDENTITY.mailbox,
    device=IDENTITY.device,
    expires_at=EXPIRES_AT,
    urgency=wire.Urgency.URGENT,
    header=b"wrapped key",
    body=b"another ciphertext",
    attachments=(
        wire.Attachment(bytes(range(0x60, 0x80)), 1_000_000, 65_536),
        wire.Attachment(b"\xff" * 32, 1, 1),
    ),
)


def vector(name: str) -> bytes:
    """In a line, everything from `#` on is a comment; what remains is hexadecimal."""
    lines = (VECTORS / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line.split("#")[0] for line in lines))


class WireForm(unittest.TestCase):
    def test_envelopes(self) -> None:
        for name, envelope in (("envelope-minimal", MINIMAL), ("envelope-full", FULL)):
            self.assertEqual(envelope.encode(), vector(name))
            self.assertEqual(wire.Envelope.decode(vector(name)), envelope)

    def test_submission(self) -> None:
        items = [wire.Item("alpha.example", MINIMAL.encode()), wire.Item("beta.example", FULL.encode())]
        self.assertEqual(wire.encode_submission(items), vector("submit-request"))

    def test_results(self) -> None:
        expected = (
            wire.Stored(),
            wire.Queued(bytes(range(0xA0, 0xB0))),
            wire.Refused("too-large", None),
            wire.Refused("rate-limited", 30),
        )
        self.assertEqual(wire.decode_results(vector("submit-results")), expected)

    def test_deliveries(self) -> None:
        entries = wire.Entries((wire.Entry(41, MINIMAL), wire.Entry(300, FULL)))
        self.assertEqual(wire.decode_delivery(vector("server-entries")), entries)
        ephemeral = wire.decode_delivery(vector("server-ephemeral"))
        assert isinstance(ephemeral, wire.Ephemeral)
        self.assertEqual(ephemeral.envelope.urgency, wire.Urgency.EPHEMERAL)
        self.assertEqual(ephemeral.envelope.body, b"typing")

    def test_acknowledgement(self) -> None:
        self.assertEqual(wire.encode_acknowledgement([41, 300]), vector("device-acknowledge"))

    def test_what_is_not_exactly_a_message_is_refused(self) -> None:
        whole = vector("server-entries")
        for length in range(len(whole)):
            with self.assertRaises(wire.Malformed, msg=f"{length} bytes of it"):
                wire.decode_delivery(whole[:length])
        broken = {
            "a byte behind it": whole + b"\0",
            "another version": b"\0\0\0\2" + whole[4:],
            "an unknown variant": whole[:4] + b"\0\0\0\2" + whole[8:],
            "more entries than there can be": whole[:8] + b"\xff" * 8 + whole[16:],
            "an envelope that points beyond the end": whole[:24] + b"\xff" * 8 + whole[32:],
        }
        for what, message in broken.items():
            with self.assertRaises(wire.Malformed, msg=what):
                wire.decode_delivery(message)


class Signatures(unittest.TestCase):
    def test_session_proof(self) -> None:
        nonce = bytes(range(0xC0, 0xE0))
        proof = session_proof("alpha.example", nonce, IDENTITY.mailbox, IDENTITY.device)
        self.assertEqual(proof, vector("session-proof"))
        self.assertEqual(IDENTITY.sign_session("alpha.example", nonce), vector("session-proof-signature"))

    def test_binding(self) -> None:
        self.assertEqual(binding_bytes(IDENTITY.mailbox, 7, "beta.example"), vector("binding"))
        binding = IDENTITY.sign_binding("beta.example", 7)
        self.assertEqual(binding.signature, vector("binding-signature"))
        self.assertTrue(binding.is_of(IDENTITY.mailbox))
        self.assertFalse(Binding("beta.example", 8, binding.signature).is_of(IDENTITY.mailbox))
        self.assertFalse(binding.is_of(Identity.generate().mailbox))

    def test_identifiers_have_one_spelling(self) -> None:
        text = "aoqqpp7tzyil4hlq3umoos6atft6jvrqtosq2xy53sdgiesvgg4a"
        self.assertEqual(to_base32(IDENTITY.mailbox), text)
        self.assertEqual(from_base32(text), IDENTITY.mailbox)
        for other in (text.upper(), text[:-1] + "b", text[:-1], text + "===="):
            with self.assertRaises(ValueError, msg=other):
                from_base32(other)


class Invites(unittest.TestCase):
    def test_the_documents_example_is_read(self) -> None:
        document = (VECTORS.parent / "protocol.md").read_text()
        (line,) = [line for line in document.splitlines() if line.startswith("https://relay.alpha.example/invite#")]
        invite = Invite.parse(line)
        self.assertEqual((invite.url, invite.domain), ("https://relay.alpha.example", "alpha.example"))
        self.assertEqual(invite.secret, "aaaqeayeaudaocajbifqydiob4")
        self.assertEqual(len(invite.pin or ""), 64)
        more = Invite.parse("https://[::1]:8443/invite#new=1&secret=s&domain=d.example")
        self.assertEqual(more, Invite("https://[::1]:8443", "d.example", "s", None))
        for other in (
            "",
            "http://a.example/invite#domain=a&secret=s",
            "https://a.example/#domain=a&secret=s",
            "https://a.example/invite#domain=a",
        ):
            with self.assertRaises(ValueError, msg=other):
                Invite.parse(other)


if __name__ == "__main__":
    unittest.main()
