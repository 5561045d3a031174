"""Work that is tried again, and work that is done for several tables at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import tenacity

from xmin_assets.config import TableConfig
from xmin_assets.errors import RefusedNow, TransientError, XminAssetsError
from xmin_assets.postgres.connection import pause
from xmin_assets.replication.manifests.report import Station
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def with_retries(
    table: TableConfig,
    station: Station,
    on_progress: ProgressCallback,
    attempt: Callable[[], Result],
    failed: Callable[[XminAssetsError], Result],
) -> Result:
    """Try again what may pass; what goes wrong for good is the table's alone, and the other tables go on.

    Args:
        table: what the work is about.
        station: where a retry is shown.
        on_progress: called with every retry.
        attempt: the work.
        failed: what to return, given the error.
    """

    def report_retry(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        on_progress(Progress(table.label, station, 0, 0, f"trying again: {error}", is_retry=True))

    try:
        return retrying(report_retry)(attempt)
    except XminAssetsError as error:
        _log.debug("%s: failed", table.label, exc_info=True)
        return failed(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other tables go on
        _log.debug("%s: failed", table.label, exc_info=True)
        what = f"{type(error).__name__}: {error}".strip()
        return failed(XminAssetsError(f"{table.label}: unexpected: {what}. Run it with --debug."))


def retrying(
    before_sleep: Callable[[tenacity.RetryCallState], None] | None = None, max_attempts: int = TransientError.attempts
) -> tenacity.Retrying:
    """Try again what failed for a reason that may pass, up to the error's `attempts` times; not after `cancel_all`.

    Five pauses of 1/4, 1/2, 1, 2 and 4 seconds and a little more: a server that crashes is back within them.
    """

    def enough(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return state.attempt_number >= min(max_attempts, getattr(error, "attempts", 1))

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        stop=enough,
        wait=tenacity.wait_exponential(multiplier=0.25) + tenacity.wait_random(0, 0.2),
        sleep=pause,
        before_sleep=before_sleep,
        reraise=True,
    )


def asked_again(look: Callable[[], Result]) -> Result:
    """Look again if a server refuses what it allowed a moment ago: for looks that nobody else tries again."""
    try:
        return look()
    except RefusedNow:
        return look()


def run_concurrently(
    work: Callable[[TableConfig], Result], tables: Sequence[TableConfig], workers: int
) -> list[Result]:
    """Do the work for each table, for as many at the same time as there are workers."""
    if len(tables) == 1:
        return [work(tables[0])]
    with ThreadPoolExecutor(min(workers, len(tables)), thread_name_prefix="xmin-table") as pool:
        return list(pool.map(work, tables))
