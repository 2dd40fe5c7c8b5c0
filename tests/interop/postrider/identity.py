"""Keys, names and signatures: docs/protocol.md, "Signatures" and "JSON documents"."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .wire import LONG_ID

SESSION_CONTEXT = b"postrider session v1\0"
BINDING_CONTEXT = b"postrider binding v1\0"


class Identity:
    """A mailbox's key, and the id of this device. An app makes both once, and keeps them."""

    def __init__(self, seed: bytes, device: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.mailbox = self._key.public_key().public_bytes_raw()
        self.device = device

    @staticmethod
    def generate() -> Identity:
        return Identity(os.urandom(32), os.urandom(LONG_ID))

    def another_device(self) -> Identity:
        """The same mailbox on another device: whoever has the key can add one."""
        return Identity(self._key.private_bytes_raw(), os.urandom(LONG_ID))

    def on_device(self, device: bytes) -> Identity:
        return Identity(self._key.private_bytes_raw(), device)

    def sign_session(self, domain: str, nonce: bytes) -> bytes:
        """`domain` is the one that is meant, never one that a relay has just told."""
        return self._key.sign(session_proof(domain, nonce, self.mailbox, self.device))

    def sign_binding(self, domain: str, serial: int) -> Binding:
        return Binding(domain, serial, self._key.sign(binding_bytes(self.mailbox, serial, domain)))


@dataclass(frozen=True)
class Binding:
    """A mailbox's signed word that it is kept at a domain. The higher serial counts."""

    domain: str
    serial: int
    signature: bytes

    def is_of(self, mailbox: bytes) -> bool:
        try:
            key = Ed25519PublicKey.from_public_bytes(mailbox)
            key.verify(self.signature, binding_bytes(mailbox, self.serial, self.domain))
        except (InvalidSignature, ValueError):
            return False
        return True


def session_proof(domain: str, nonce: bytes, mailbox: bytes, device: bytes) -> bytes:
    """What a device signs to get a session."""
    name = domain.encode("ascii")
    return SESSION_CONTEXT + bytes([len(name)]) + name + nonce + mailbox + device


def binding_bytes(mailbox: bytes, serial: int, domain: str) -> bytes:
    """What a mailbox's key signs to say where it is kept."""
    return BINDING_CONTEXT + mailbox + serial.to_bytes(8, "big") + domain.encode("ascii")


def to_base32(identifier: bytes) -> str:
    return base64.b32encode(identifier).decode().rstrip("=").lower()


def from_base32(text: str) -> bytes:
    """An identifier has one spelling; whatever is spelt otherwise is refused."""
    if text != text.lower():
        raise ValueError(f"capitals in {text}")
    identifier = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    if to_base32(identifier) != text:
        raise ValueError(f"{text} has bits that belong to nothing")
    return identifier
