"""Work in a thread of its own, which can be cancelled from the thread that waits for it.

The driver waits inside C code, where Python runs no signal handler. So code that must react to a signal, or to an
interrupt of Dagster's, lets the work run in another thread, and waits where the signal reaches it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

STOP_TIMEOUT = 5.0
"""Seconds that cancelled work has to end; a server that does not answer must not keep anybody."""


class CancellableWork(Generic[Result]):
    """A function that runs in a thread of its own.

    Args:
        work: what to do.
        on_end: called in that thread when the work has ended in any way.
    """

    def __init__(self, work: Callable[[], Result], on_end: Callable[[], None] = lambda: None) -> None:
        self._results: list[Result] = []
        self._failures: list[BaseException] = []
        self._cancelling: threading.Thread | None = None

        def run() -> None:
            try:
                self._results.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
                self._failures.append(error)
            finally:
                on_end()

        self._thread = threading.Thread(target=run, name="xmin-work", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the work, for `timeout` seconds at most; return whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Cancel what all connections of this process are doing, and let no new work begin."""
        from xmin_assets.postgres.connection import cancel_all  # here, because few ever need it

        # Asking the servers takes a round trip each, and a dead one never answers: not in this thread.
        self._cancelling = threading.Thread(target=cancel_all, name="xmin-cancel", daemon=True)
        self._cancelling.start()

    def resume(self) -> None:
        """Let new work begin after `cancel`: the process may have more to do, as a notebook or a test has."""
        from xmin_assets.postgres.connection import resume

        if self._cancelling:
            self._cancelling.join(STOP_TIMEOUT)
        resume()

    @property
    def returned(self) -> Result | None:
        """What the work has returned, if it has."""
        return self._results[0] if self._results else None

    def result(self) -> Result:
        """Return what the work has returned, or raise what it has raised."""
        if self._failures:
            raise self._failures[0]
        return self._results[0]
