"""Sessions that keep changing the source while it is replicated.

Most commit at once. Some leave a transaction open and commit late, with an xid lower than what others have
committed long before: what a replication that resumes from max(xmin) would lose. A few roll back.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from xmin_assets.demo import server_pair
from xmin_assets.demo.changes import CHANGES
from xmin_assets.demo.errors import DemoError
from xmin_assets.errors import TransientError

ROWS = 20
ROLLBACK_SHARE = 0.05
HELD_SECONDS = (1.0, 6.0)


@dataclass(frozen=True)
class LoadReport:
    """What has been committed so far. ``late`` counts the transactions that were left open a while."""

    inserted: int
    updated: int
    deleted: int
    transactions: int
    late: int
    rolled_back: int


def load(
    directory: Path,
    *,
    seconds: float = 60,
    rate: float = 20,
    sessions: int = 4,
    progress: Callable[[LoadReport], None] | None = None,
) -> LoadReport:
    """Change the source of the pair in ``directory`` for ``seconds``, and return what was committed.

    ``rate`` is about how many transactions a second commit; every fourth session is a late one. ``progress`` is
    told about once a second and at the end, also when a signal's exception (Ctrl-C) ends it early: the open
    transactions are ended first. Raises DemoError when the pair is not up, TransientError when it goes away.
    """
    running = server_pair.running(directory)
    if running is None:
        raise DemoError("The demo's servers are not running: start them with xmin-assets demo up.")
    if seconds <= 0 or rate <= 0 or sessions < 1:
        raise DemoError("Seconds and rate must be above 0, and there must be at least one session.")

    late = sessions // 4
    work = _Work(running.app_url, pause=(sessions - late) / rate)
    with ThreadPoolExecutor(sessions, thread_name_prefix="load") as threads:
        futures = [threads.submit(work.session, late=number < late) for number in range(sessions)]
        try:
            work.watch(futures, seconds, progress)
        finally:
            work.stop.set()
            wait(futures)
            if progress is not None:
                progress(work.report())
    for future in futures:
        error = future.exception()
        if isinstance(error, psycopg2.Error):
            raise TransientError(f"The workload lost its server: {str(error).strip()}") from error
        if error is not None:
            raise error
    return work.report()


class _Work:
    """What the sessions share."""

    def __init__(self, url: str, pause: float) -> None:
        self.stop = threading.Event()
        self._url = url
        self._pause = pause
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def session(self, *, late: bool) -> None:
        chance = random.Random()
        with closing(psycopg2.connect(self._url, application_name="xmin-assets demo load")) as connected:
            while not self.stop.wait(chance.uniform(0, 2 * self._pause)):
                counts: Counter[str] = Counter(transactions=1, late=int(late))
                with connected.cursor() as cursor:
                    for change in chance.sample(CHANGES, chance.randint(1, 3)):
                        counts[change.kind] += change.apply(cursor, chance.randint(1, ROWS))
                if late:
                    # Ended early by the stop, never left uncommitted.
                    self.stop.wait(chance.uniform(*HELD_SECONDS))
                if not late and chance.random() < ROLLBACK_SHARE:
                    connected.rollback()
                    counts = Counter(rolled_back=1)
                else:
                    connected.commit()
                with self._lock:
                    self._counts.update(counts)

    def watch(self, futures: list[Future[None]], seconds: float, progress: Callable[[LoadReport], None] | None) -> None:
        """Return after ``seconds``, or when a session fails."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            done, _ = wait(futures, timeout=min(1.0, left), return_when=FIRST_EXCEPTION)
            if done:
                return
            if progress is not None:
                progress(self.report())

    def report(self) -> LoadReport:
        with self._lock:
            counts = Counter(self._counts)
        return LoadReport(
            inserted=counts["insert"],
            updated=counts["update"],
            deleted=counts["delete"],
            transactions=counts["transactions"],
            late=counts["late"],
            rolled_back=counts["rolled_back"],
        )
