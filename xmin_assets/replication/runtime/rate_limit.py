"""A bound on the bytes that all threads of a process move together in a second.

Whoever wants to move some reserves the time that they take at the rate, one after the other, and waits until its time
has come. So the pace is even as long as what is moved at once is small (`RateLimit.piece`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import IO, cast

from xmin_assets.postgres.connection import Budget, pause

PIECE_SECONDS = 1 / 16
"""What is moved at once takes so long at the rate."""

BURST_SECONDS = 1 / 8
"""What was not moved for so long may be made up for. It evens out waits that take a little longer than asked for."""


class RateLimit:
    """So many bytes in a second, for all threads together: a `Budget`.

    In any t seconds at most rate x (t + 3/16) bytes are begun: the burst and one piece.

    Args:
        rate: bytes per second.
        now: the monotonic clock, in seconds.
        wait: waits so many seconds, and raises `Cancelled` where the work was stopped.
    """

    def __init__(
        self, rate: float, now: Callable[[], float] = time.monotonic, wait: Callable[[float], None] = pause
    ) -> None:
        self.rate = rate
        self._now = now
        self._wait = wait
        self._guard = threading.Lock()
        self._free_from = now() - BURST_SECONDS

    @property
    def piece(self) -> int:
        """Bytes that should be moved at once at most, so that the pace is even."""
        return max(1, int(self.rate * PIECE_SECONDS))

    def pay(self, size: int, until: float = math.inf) -> None:
        """Wait until so many bytes may be moved, or until a monotonic time in seconds.

        Raises:
            Cancelled: `cancel_all` was called.
        """
        with self._guard:
            begins = max(self._free_from, self._now() - BURST_SECONDS)
            self._free_from = begins + size / self.rate
        left = min(begins, until) - self._now()
        if left > 0:
            self._wait(left)


class PacedFile:
    """A file that is read no faster than a budget allows."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self._file = file
        self._budget = budget

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, and fewer where a budget's piece is smaller; none at the end.

        Raises:
            Cancelled: `cancel_all` was called.
        """
        piece = self._budget.piece
        data = self._file.read(piece if size < 0 else min(size, piece))
        if data:
            self._budget.pay(len(data))
        return data


def paced(file: IO[bytes], budget: Budget | None) -> IO[bytes]:
    """Return the file, as COPY may read it under the budget."""
    return cast("IO[bytes]", PacedFile(file, budget)) if budget else file
