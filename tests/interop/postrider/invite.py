"""An invite, which is all that an app needs of its user to make a mailbox: docs/protocol.md, "Invites"."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Invite:
    """Where to go, whom to expect there, and what to show when registering."""

    url: str
    domain: str
    secret: str
    pin: str | None

    @staticmethod
    def parse(text: str) -> Invite:
        parts = urlsplit(text)
        pairs = dict(pair.split("=", 1) for pair in parts.fragment.split("&") if "=" in pair)
        if parts.scheme != "https" or parts.path != "/invite" or not {"domain", "secret"} <= pairs.keys():
            raise ValueError("that is no invite")
        return Invite(f"https://{parts.netloc}", pairs["domain"], pairs["secret"], pairs.get("pin"))
