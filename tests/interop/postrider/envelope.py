"""Making an envelope so that it tells little: docs/protocol.md, "Terms"."""

from __future__ import annotations

import os
import time

from .wire import SHORT_ID, Envelope, Urgency

HOUR = 3_600
SIZES = [512 << step for step in range(9)]
"""512 bytes to 128 KiB: a body has one of these lengths."""


def compose(mailbox: bytes, ciphertext: bytes, lives: int, *, urgency: Urgency = Urgency.NORMAL) -> Envelope:
    """An envelope that may be deleted undelivered after `lives` seconds, or up to an hour later.

    `ciphertext` is whatever the app's own encryption has made, which has to be able to tell where it ends.
    """
    size = next((size for size in SIZES if size >= len(ciphertext)), None)
    if size is None:
        raise ValueError(f"{len(ciphertext)} bytes are more than one envelope carries")
    expires_at = -(-(int(time.time()) + lives) // HOUR) * HOUR
    return Envelope(os.urandom(SHORT_ID), mailbox, expires_at, ciphertext.ljust(size, b"\0"), urgency=urgency)
