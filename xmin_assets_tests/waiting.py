"""Waiting for an event that a server can be asked about."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 20.0
"""Seconds after which an event is taken as never to come."""


def wait_until(happened: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Return as soon as it has happened; fail the test if it does not."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.01)
