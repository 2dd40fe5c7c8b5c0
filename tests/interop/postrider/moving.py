"""Taking a mailbox to another relay: docs/protocol.md, "Moving"."""

from __future__ import annotations

from .identity import Identity
from .relay import Relay


def move(identity: Identity, old: Relay, new: Relay) -> None:
    """In this order nothing is lost or held up. Whatever fails can be begun again."""
    here = old.sign_in(identity)
    # An envelope is for the devices that are registered when it arrives, so all of them have to be there first.
    for device in here.devices():
        new.sign_in(identity.on_device(device.id)).register()
    there = new.sign_in(identity)
    known = [binding for binding in (here.binding(), there.binding()) if binding is not None]
    latest = max(known, key=lambda binding: binding.serial, default=None)
    if latest is not None and latest.domain == new.domain:
        binding = latest  # from an attempt that was interrupted
    else:
        binding = identity.sign_binding(new.domain, 1 if latest is None else latest.serial + 1)
    there.bind(binding)
    here.bind(binding)
