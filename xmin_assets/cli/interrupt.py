"""Ctrl-C and SIGTERM: stop what the servers are doing, then end with the status that a shell expects."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TypeVar

from xmin_assets.cli.console import show_note
from xmin_assets.replication.runtime.cancellation import STOP_TIMEOUT, CancellableWork

Result = TypeVar("Result")

_STOPPING = "Stopping. What was merged is complete; the rest comes with the next sync."


class Stopped(BaseException):
    """A signal asked the command to end."""

    def __init__(self, number: int, result: object = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number
        self.result = result
        """What the work returned before it ended, or None."""


@contextmanager
def signals_stop() -> Iterator[None]:
    """Raise `Stopped` on SIGINT and SIGTERM, unless the parent process wants them ignored."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    with _handling(stop):
        yield


def interruptible(work: Callable[[], Result], stopping: str = _STOPPING) -> Result:
    """Run the work in a thread and wait for it.

    Args:
        work: what to do.
        stopping: what to say when a signal comes.

    Raises:
        Stopped: a signal came; the work was cancelled and has ended, with `result` if it returned one.
    """
    events: SimpleQueue[int | None] = SimpleQueue()  # put() may be called in a signal handler
    with _handling(lambda number, _: events.put(number)):
        running = CancellableWork(work, on_end=lambda: events.put(None))
        number = events.get()
        if number is not None:
            show_note(stopping)
            running.cancel()
            _await_end(events, number)
            raise Stopped(number, running.returned)
    return running.result()


def _await_end(events: SimpleQueue[int | None], number: int) -> None:
    """Wait for the end of work that was cancelled; end the process if a second signal or no end comes."""
    try:
        again = events.get(timeout=STOP_TIMEOUT)
    except Empty:
        again = number
    if again is not None:  # threads that are stuck in C code are left behind
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + number)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
