"""Terminating a run stops what the servers are doing for it, at once.

The driver waits inside C code, where Python runs no signal handler. So a station runs in a thread, and the step's
own thread waits where Dagster's interrupt reaches it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from xmin_assets.postgres.connection import cancel_all, resume

Result = TypeVar("Result")

SUMMARY_TIMEOUT = 5.0
"""Seconds that a terminated station has to end; a server that does not answer must not keep the run."""


def terminable(work: Callable[[], Result]) -> Result:
    """Do the work; when the run is terminated meanwhile, cancel its statements and let the interrupt go on."""
    results: list[Result] = []
    failures: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the step's thread
            failures.append(error)

    worker = threading.Thread(target=target, name="xmin-station", daemon=True)
    worker.start()
    try:
        worker.join()
    except BaseException:  # KeyboardInterrupt, or DagsterExecutionInterruptedError, which is no Exception either
        # Asking the servers takes a round trip each, and a dead one never answers: not in this thread.
        asking = threading.Thread(target=cancel_all, daemon=True)
        asking.start()
        worker.join(SUMMARY_TIMEOUT)
        if not worker.is_alive():
            # The process may have more to do than this run: a notebook, or a test.
            asking.join(SUMMARY_TIMEOUT)
            resume()
        raise
    if failures:
        raise failures[0]
    return results[0]
