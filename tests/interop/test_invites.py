"""This client against a relay where registering takes an invite: docs/protocol.md, "Registering" and "Invites".

`POSTRIDER_RELAYS` in the environment is as for test_relays.py, with one relay, and with `invite` beside the rest: the URL
of an invite for one mailbox, as its administrator hands it out. tests/tests/interop.rs makes both and runs this file.
"""

from __future__ import annotations

import json
import os
import unittest
from collections.abc import Callable
from dataclasses import replace

from postrider.connection import Place
from postrider.identity import Identity
from postrider.invite import Invite
from postrider.problem import Problem
from postrider.relay import Relay, Session


class Invited(unittest.TestCase):
    def setUp(self) -> None:
        (given,) = json.loads(os.environ["POSTRIDER_RELAYS"])
        self.invite = Invite.parse(given["invite"])
        host, _, port = given["address"].rpartition(":")
        # Where to go and whom to expect is in the invite. Only what DNS and the web's authorities would say is not.
        place = Place(self.invite.url, self.invite.pin, given["authorities"], (host, int(port)))
        self.relay = Relay(self.invite.domain, place)
        self.addCleanup(self.relay.close)

    def somebody(self) -> Session:
        return self.relay.sign_in(Identity.generate())

    def refused(self, word: str, call: Callable[[], object]) -> None:
        with self.assertRaises(Problem) as raised:
            call()
        problem = raised.exception
        self.assertEqual((problem.word, problem.status), (word, 403), str(problem))

    def test_an_invite_for_one_lets_in_one(self) -> None:
        self.assertEqual(self.relay.info()["policies"]["registration"], "invite")
        alice, bob = self.somebody(), self.somebody()
        self.refused("invite-needed", alice.register)
        wrong = replace(self.invite, secret="a" * 26)
        self.refused("invite-refused", lambda: alice.register(wrong))

        self.assertTrue(alice.register(self.invite))
        self.assertFalse(alice.register(self.invite), "a repetition takes no use")
        laptop = self.relay.sign_in(alice.identity.another_device())
        self.assertFalse(laptop.register(), "another device of a mailbox needs no invite")
        self.assertEqual(len(alice.devices()), 2)

        self.refused("invite-refused", lambda: bob.register(self.invite))
        self.refused("invite-needed", bob.register)

        alice.delete()
        self.refused("invite-refused", lambda: alice.register(self.invite))


if __name__ == "__main__":
    unittest.main()
