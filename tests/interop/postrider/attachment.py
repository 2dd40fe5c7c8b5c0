"""Attachments, which travel beside the envelope that names them: docs/protocol.md, "Attachments"."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .identity import from_base32, to_base32
from .wire import Attachment

MAX_CHUNK = 16 << 20
"""Bytes of a chunk."""


@dataclass(frozen=True)
class Progress:
    """How much of an attachment a relay has: AttachmentStatus."""

    attachment: Attachment
    missing: tuple[tuple[int, int], ...]
    """The first and the last number of each gap."""

    @staticmethod
    def read(document: dict[str, Any]) -> Progress:
        attachment = Attachment(from_base32(document["id"]), document["length"], document["chunk_length"])
        return Progress(attachment, tuple((first, last) for first, last in document["missing"]))

    def chunks(self) -> Iterator[int]:
        """The numbers of the chunks that are missing."""
        for first, last in self.missing:
            yield from range(first, last + 1)


def path_of(attachment: bytes) -> str:
    return f"/v1/attachments/{to_base32(attachment)}"


def digest_of(chunk: bytes) -> str:
    """What `Content-Digest` says of a chunk (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(chunk).digest()).decode()}:"


def chunk_of(content: bytes, attachment: Attachment, number: int) -> bytes:
    """One chunk; the last is what is left."""
    start = number * attachment.chunk_length
    return content[start : start + attachment.chunk_length]
