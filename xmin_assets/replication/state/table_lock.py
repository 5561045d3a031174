"""The table lock: one sync of a table works at a time, whoever started it, and the others wait.

No promise depends on it: of two syncs that work side by side, the merge refuses the one that was planned from an older
state. With the lock none has to be refused. Where the role may not take such locks, there is none.

All table locks of a process are advisory locks of one session, within one transaction that stays open. So a
transaction-pooling proxy keeps the session for us. The transaction has neither an id nor a snapshot between its
statements, so it holds back no vacuum.

A process that ends in any way gives its locks back with its session, or behind a proxy that keeps the session of a
client that died (PgCat, PgDog), with its transaction: in that, the session holds one more lock, which ends with it and
says that a process is at work. A table lock without it keeps nobody waiting. It cannot be given back from elsewhere, so
whoever finds one takes the next lock of the table in its place
(https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import TableBusy, XminAssetsError
from xmin_assets.postgres.connection import Database, check_cancelled
from xmin_assets.postgres.rows import Value, fetch_as, fetch_value
from xmin_assets.postgres.server_facts import ASK_AGAIN_S, Fact, is_refusal
from xmin_assets.postgres.transaction import HEARTBEAT, TransactionMode, transaction, translate_errors
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback, ignore_progress

_TAKE = """
SELECT pg_catalog.pg_try_advisory_lock(
           pg_catalog.hashtext('xmin_assets table lock'), pg_catalog.hashtext(%(lock)s)) AS taken
"""

_RELEASE = """
SELECT pg_catalog.pg_advisory_unlock(
           pg_catalog.hashtext('xmin_assets table lock'), pg_catalog.hashtext(%(lock)s)) AS released
"""

# pg_locks shows the two keys as oids, which have no sign. It is read once: a session may end between two looks.
_HOLDER = """
WITH held AS MATERIALIZED (
    SELECT pid, classid::int8 AS room, objid::int8 AS key
      FROM pg_catalog.pg_locks
     WHERE locktype = 'advisory' AND objsubid = 2 AND granted
       AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
SELECT pid,
       EXISTS (SELECT
                 FROM held mark
                WHERE mark.pid = held.pid
                  AND mark.room = pg_catalog.hashtext('xmin_assets at work')::int8 & 4294967295) AS is_at_work
  FROM held
 WHERE room = pg_catalog.hashtext('xmin_assets table lock')::int8 & 4294967295
   AND key = pg_catalog.hashtext(%(lock)s)::int8 & 4294967295
"""

_SAY_AT_WORK = """
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('xmin_assets at work'), pg_catalog.pg_backend_pid())
"""

# Of a process that had this session before us, behind a proxy. The cast to bit(32) gives the keys their sign back.
_RELEASE_LEFT = """
SELECT pg_catalog.pg_advisory_unlock(classid::int8::bit(32)::int4, objid::int8::bit(32)::int4)
  FROM pg_catalog.pg_locks
 WHERE locktype = 'advisory' AND objsubid = 2 AND pid = pg_catalog.pg_backend_pid()
   AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND classid::int8 = pg_catalog.hashtext('xmin_assets table lock')::int8 & 4294967295
"""

LOCK_FACTS = {
    "table_lock": Fact(
        "table_lock",
        """(SELECT pg_catalog.pg_advisory_unlock(k.room, k.key)::text
              FROM (SELECT pg_catalog.hashtext('xmin_assets facts') AS room, pg_catalog.pg_backend_pid() AS key) AS k
             WHERE pg_catalog.pg_try_advisory_lock(k.room, k.key)
               AND EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = k.key))""",
        ("pg_try_advisory_lock(int, int)", "pg_advisory_unlock(int, int)", "pg_lock_status()", "pg_locks"),
        "lets one sync of a table wait for the other",
        "two syncs of one table may work side by side, and the later merge is refused",
    )
}
"""What the table lock needs of a target."""

_LONGEST_PAUSE = 0.5
"""Seconds between two attempts to take a lock."""

_REPORT_AFTER = 1.0
"""Seconds of waiting after which it is reported."""


@dataclass(frozen=True)
class _Holder:
    """The session that has a table lock."""

    pid: int
    is_at_work: bool
    """Whether it is in the transaction of a process that syncs, or one that died has left the lock to a proxy."""


class _Refused(Exception):
    """The server has no such locks for us."""


class TableLocks:
    """The table locks of this process in one target database.

    Args:
        target: one connection beside its limit is opened when the first lock is taken.
    """

    def __init__(self, target: Database) -> None:
        self._target = target
        self._guard = threading.Lock()
        self._session = ExitStack()
        self._cursor: ext.cursor | None = None
        self._refused_at: float | None = None
        self._ended = threading.Event()

    def __enter__(self) -> TableLocks:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with self._guard:
            self._close_session()

    def prepare(self) -> None:
        """Begin to open the connection, for the lock that is taken soon."""

        def open_session() -> None:
            with self._guard:
                if self._cursor or self._ended.is_set():
                    return
                try:
                    self._open_session("waiting for a table lock")
                except XminAssetsError as error:  # who takes a lock gets the error
                    self._close_session()
                    if is_refusal(error):
                        self._refused_at = time.monotonic()

        threading.Thread(target=open_session, name="xmin-locks-connect", daemon=True).start()

    @contextmanager
    def hold(
        self, table: TableConfig, timeout: float, on_progress: ProgressCallback = ignore_progress
    ) -> Iterator[None]:
        """Wait until no other sync of the table is at work, and keep others waiting until the end.

        Args:
            table: whose target it is about.
            timeout: seconds to wait.
            on_progress: called if we wait for long.

        Raises:
            TableBusy: another sync is still at work.
            XminAssetsError: the target failed.
        """
        action = f"{table.label}: waiting for the table lock"
        try:
            lock = self._take(table, action, timeout, on_progress)
        except _Refused:
            yield  # the merge refuses what was planned from an older state
            return
        try:
            yield
        finally:
            with suppress(XminAssetsError, _Refused):  # a session that is lost has given back its locks
                self._query(action, _RELEASE, lock, _fetch_bool)

    def _take(self, table: TableConfig, action: str, timeout: float, on_progress: ProgressCallback) -> str:
        """Take the first lock of the table that nobody who is gone has, and return its name."""
        name = table.target_name.digest
        locks = chain([name], (f"{name} {number}" for number in count(2)))
        lock, suspect = next(locks), None
        began, pause, is_reported = time.monotonic(), 0.02, False
        while not self._query(action, _TAKE, lock, _fetch_bool):
            waited = time.monotonic() - began
            holder = self._query(action, _HOLDER, lock, _fetch_holder)
            left_by = holder.pid if holder and not holder.is_at_work else None
            # Seen twice: a session that is just ending gives its locks back one after the other.
            if left_by and left_by == suspect:
                lock, suspect = next(locks), None
                continue
            suspect = left_by
            who = f"backend {holder.pid} of the target" if holder else "it ends just now"
            if waited >= timeout and not suspect:
                raise TableBusy(
                    f"{table.label}: another sync of this table was at work for all of the {timeout:.0f} s that this "
                    f"one waited ({who}). It brings what this one would have; raise queue_timeout to wait longer."
                )
            if waited >= _REPORT_AFTER and not is_reported:
                is_reported = True
                on_progress(Progress(table.label, "snapshot", 0, 0, f"waiting: another sync is at work ({who})"))
            check_cancelled()
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE)
        return lock

    def _query(self, action: str, statement: str, lock: str, fetch: Callable[[ext.cursor], Value]) -> Value:
        with self._guard:
            # To ask again for each table of a round would take a connection each.
            if self._refused_at is not None and time.monotonic() - self._refused_at < ASK_AGAIN_S:
                raise _Refused
            try:
                cursor = self._cursor or self._open_session(action)
                with translate_errors(self._target, action):
                    cursor.execute(statement, {"lock": lock})
                    return fetch(cursor)
            except XminAssetsError as error:
                self._close_session()
                if not is_refusal(error):
                    raise
                self._refused_at = time.monotonic()
                raise _Refused from error

    def _open_session(self, action: str) -> ext.cursor:
        connection = self._session.enter_context(self._target.extra_connection())
        first = (sql.SQL(_RELEASE_LEFT), sql.SQL(_SAY_AT_WORK))
        begun = self._session.enter_context(transaction(self._target, connection, TransactionMode.READ, action, *first))
        # Cut and not committed: most proxies close a session that was left in the middle of a transaction.
        self._session.callback(connection.close)
        self._cursor = begun
        threading.Thread(target=self._keep_alive, args=(self._cursor,), name="xmin-locks", daemon=True).start()
        return self._cursor

    def _close_session(self) -> None:
        self._cursor = None
        with suppress(XminAssetsError):
            self._session.close()

    def _keep_alive(self, cursor: ext.cursor) -> None:
        # Otherwise idle_in_transaction_session_timeout would take us for a process that is stuck.
        while not self._ended.wait(HEARTBEAT):
            with self._guard:
                if self._cursor is not cursor:
                    return
                with suppress(XminAssetsError), translate_errors(self._target, "waiting"):
                    cursor.execute("SELECT 1")


def _fetch_bool(cursor: ext.cursor) -> bool:
    return fetch_value(cursor, bool)


def _fetch_holder(cursor: ext.cursor) -> _Holder | None:
    return next(iter(fetch_as(cursor, _Holder)), None)


@contextmanager
def hold_table_lock(
    target: Database, table: TableConfig, timeout: float, on_progress: ProgressCallback = ignore_progress
) -> Iterator[None]:
    """Hold the lock of one table, for a process that syncs no other."""
    with TableLocks(target) as table_locks, table_locks.hold(table, timeout, on_progress):
        yield
