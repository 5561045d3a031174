"""Ctrl-C and SIGTERM: stop what the servers are doing, then end with the status that a shell expects.

The driver waits inside C code, where Python runs no signal handler. So the work runs in a thread, and the main
thread waits where a signal wakes it at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TypeVar

from xmin_assets.cli.console import show_note

Result = TypeVar("Result")

_STOPPING = "Stopping. What was merged is complete; the rest comes with the next sync."

SUMMARY_TIMEOUT = 5.0
"""Seconds that the work has to end after a signal; a server that does not answer must not keep us."""


class Stopped(BaseException):
    """A signal asked the command to end."""

    def __init__(self, number: int, result: object = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number
        self.result = result
        """What the work returned before it ended, or None."""


@contextmanager
def signals_stop() -> Iterator[None]:
    """Raise `Stopped` on SIGINT and SIGTERM, unless whoever started us wants them ignored."""

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
    results: list[Result] = []
    failures: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            failures.append(error)
        finally:
            events.put(None)

    with _handling(lambda number, _: events.put(number)):
        threading.Thread(target=target, name="work", daemon=True).start()
        number = events.get()
        if number is not None:
            show_note(stopping)
            _stop(events, number)
            raise Stopped(number, results[0] if results else None)
    if failures:
        raise failures[0]
    return results[0]


def _stop(events: SimpleQueue[int | None], number: int) -> None:
    from xmin_assets.postgres.connection import cancel_all

    # Asking the servers takes a round trip each, and a dead one never answers: not in this thread.
    threading.Thread(target=cancel_all, daemon=True).start()
    try:
        again = events.get(timeout=SUMMARY_TIMEOUT)
    except Empty:
        again = number
    if again is not None:  # a second signal, or out of patience: threads that are stuck in C code are left behind
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
