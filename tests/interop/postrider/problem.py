"""What a relay answers instead of a success, and what to do then: docs/protocol.md, "Errors" and "Repeating"."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PREFIX = "urn:postrider:problem:"


class Unanswered(ConnectionError):
    """No answer came. Nobody knows whether the call was carried out; to make it again does no harm."""


class Problem(Exception):
    """The relay refused. A client goes by `word`, and where it does not know that, by `status`; never by the text."""

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        try:
            document = json.loads(body)
        except ValueError:
            document = {}  # what is refused before a call is looked at has no document
        self.status = status
        self.word = str(document.get("type", "")).removeprefix(PREFIX)
        self.domain: str | None = document.get("domain")
        self.retry_after = None if retry_after is None else int(retry_after)
        super().__init__(f"{status} {self.word}: {document.get('detail') or document.get('title', '')}")


def patiently(call: Callable[[], T], attempts: int = 6) -> T:
    """Makes a call that may be repeated until it is answered: with longer pauses each time, some randomness, and never
    sooner than the relay has asked for."""
    pause = 0.2
    for _ in range(attempts - 1):
        try:
            return call()
        except Unanswered:
            asked = 0
        except Problem as problem:
            if problem.retry_after is None:
                raise
            asked = problem.retry_after
        time.sleep(max(asked, pause * random.uniform(0.5, 1.5)))
        pause *= 3
    return call()
