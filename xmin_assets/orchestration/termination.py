"""Terminating a run stops what the servers are doing for it, at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from xmin_assets.replication.runtime.cancellation import STOP_TIMEOUT, CancellableWork

Result = TypeVar("Result")


def terminable(work: Callable[[], Result]) -> Result:
    """Do the work; when the run is terminated meanwhile, cancel its statements and let the interrupt go on."""
    running = CancellableWork(work)
    try:
        running.wait()
    except BaseException:  # KeyboardInterrupt, or DagsterExecutionInterruptedError, which is no Exception either
        running.cancel()
        if running.wait(STOP_TIMEOUT):
            running.resume()
        raise
    return running.result()
