"""Reading that makes way: how the source fares is asked between batches, and reading slows down and stops by that."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import psycopg2
import psycopg2.extensions as ext

from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.connection import Database, pause
from xmin_assets.postgres.rows import fetch_one_as

_log = logging.getLogger(__name__)

ASKED_EVERY = 1.0
"""Seconds for which an answer stands."""

LONGEST_STOP = 60.0
"""Seconds after which a batch is read however the source fares: a sync that stood still would hold its snapshot."""

LEAST_PACE = 0.05
"""Slower than this is a stop."""

# Sessions of ours are left out: they are what makes way. A role that may not see a session's state, or the lag of a
# standby, is told NULL (https://www.postgresql.org/docs/current/monitoring-stats.html).
_SIGNS = """
SELECT (SELECT count(*)::float8 / current_setting('max_connections')::int
          FROM pg_catalog.pg_stat_activity
         WHERE state = 'active' AND backend_type = 'client backend'
           AND application_name <> 'xmin_assets') AS active_share,
       (SELECT coalesce(max(extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)), 0)::float8
          FROM pg_catalog.pg_stat_activity
         WHERE backend_xmin IS NOT NULL AND application_name <> 'xmin_assets') AS oldest_snapshot,
       (SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::float8
          FROM pg_catalog.pg_stat_replication) AS standby_lag
"""


class Signs(NamedTuple):
    """How a source fares, as far as the role may see it."""

    active_share: float
    """Sessions of others that run a statement, as a share of max_connections."""
    oldest_snapshot: float
    """Age in seconds of the oldest transaction of others that holds a snapshot."""
    standby_lag: float
    """Seconds that the slowest standby is behind with replaying."""

    def pace(self) -> tuple[float, str]:
        """Return how fast to read, from 1 (full speed) to 0 (not now), and what says so."""
        paces = (
            (_falling(self.active_share, 0.25, 0.75), f"{self.active_share:.0%} of its connections are active"),
            (_falling(self.oldest_snapshot, 600, 3600), f"its oldest snapshot is {self.oldest_snapshot:.0f} s old"),
            (_falling(self.standby_lag, 5, 60), f"a standby is {self.standby_lag:.0f} s behind"),
        )
        return min(paces)


class Courtesy:
    """Slows the workers of a sync down by how the source fares.

    Args:
        database: the source.
        now: the monotonic clock, in seconds.
        wait: waits so many seconds, and raises `Cancelled` where the work was stopped.
    """

    def __init__(
        self, database: Database, now: Callable[[], float] = time.monotonic, wait: Callable[[float], None] = pause
    ) -> None:
        self._database = database
        self._now = now
        self._wait = wait
        self._guard = threading.Lock()
        self._connection: ext.connection | None = None
        self._asked = -math.inf
        self._pace = 1.0

    def make_way(self, seconds: float, until: float) -> None:
        """Wait after a batch, in proportion to what it took, or as long as the source has too much to do.

        Args:
            seconds: that the batch took.
            until: monotonic time in seconds after which nothing is waited for.

        Raises:
            Cancelled: `cancel_all` was called.
        """
        began = self._now()
        until = min(until, began + LONGEST_STOP)
        while (pace := self.pace()) < LEAST_PACE:
            if self._now() >= until:
                return
            self._wait(min(ASKED_EVERY, max(0.0, until - self._now())))
        rest = min(seconds * (1 - pace) / pace, until - self._now())
        if rest > 0:
            self._wait(rest)

    def pace(self) -> float:
        """Return how fast to read, from 1 (full speed) to 0 (not now)."""
        with self._guard:
            if self._now() - self._asked >= ASKED_EVERY:
                before = self._pace
                self._pace, why = self._ask()
                self._asked = self._now()
                if self._pace < 1 and round(before, 1) != round(self._pace, 1):
                    _log.info("The %s has much to do (%s): reading at %.0f %%", self._database, why, 100 * self._pace)
            return self._pace

    def _ask(self) -> tuple[float, str]:
        # Whatever goes wrong here is no reason to fail: the next batch will tell.
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._database.open_extra()
            with self._connection.cursor() as cursor:
                cursor.execute(_SIGNS)
                return fetch_one_as(cursor, Signs).pace()
        except (psycopg2.Error, XminAssetsError) as error:
            _log.debug("how the %s fares is not known: %s", self._database, type(error).__name__)
            return 1.0, ""

    def close(self) -> None:
        """Close the connection over which it asks."""
        with suppress(psycopg2.Error):
            if self._connection is not None:
                self._connection.close()


def _falling(value: float, good: float, bad: float) -> float:
    """Return 1 up to a good value, 0 from a bad one on, and what lies between in proportion."""
    return min(1.0, max(0.0, (bad - value) / (bad - good)))
