"""The table lock: one sync of a table works at a time, whoever started it, and the others wait.

No promise depends on it: of two syncs that work side by side, the merge refuses the one that was planned from an older
state. With the lock none has to be refused. Where the role may not take such locks, there is none.

All table locks of a process are advisory locks of one session, within one transaction that stays open. So a
transaction-pooling proxy keeps the session for us, and a process that ends in any way gives its locks back at once. The
transaction has neither an id nor a snapshot between its statements, so it holds back no vacuum
(https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg2.extensions as ext

from xmin_assets.config import TableConfig
from xmin_assets.errors import TableBusy, XminAssetsError
from xmin_assets.postgres.connection import Database, check_cancelled
from xmin_assets.postgres.rows import fetch_value_if_any
from xmin_assets.postgres.server_facts import is_refusal
from xmin_assets.postgres.transaction import HEARTBEAT, TransactionMode, transaction, translate_errors
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback, ignore_progress

_TAKE = """
SELECT pg_catalog.pg_try_advisory_lock(
           pg_catalog.hashtext('xmin_assets table lock'), pg_catalog.hashtext(%(table)s)) AS taken
"""

_RELEASE = """
SELECT pg_catalog.pg_advisory_unlock(
           pg_catalog.hashtext('xmin_assets table lock'), pg_catalog.hashtext(%(table)s)) AS released
"""

# pg_locks shows the two keys as oids, which have no sign.
_HOLDER = """
SELECT pid
  FROM pg_catalog.pg_locks
 WHERE locktype = 'advisory' AND objsubid = 2 AND granted
   AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND classid::int8 = pg_catalog.hashtext('xmin_assets table lock')::int8 & 4294967295
   AND objid::int8 = pg_catalog.hashtext(%(table)s)::int8 & 4294967295
"""

_LONGEST_PAUSE = 0.5
"""Seconds between two attempts to take a lock."""

_REPORT_AFTER = 1.0
"""Seconds of waiting after which it is reported."""


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
                except XminAssetsError:  # who takes a lock gets the error
                    self._close_session()

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
        action, digest = f"{table.label}: waiting for the table lock", table.target_name.digest
        began, pause, is_reported = time.monotonic(), 0.02, False
        try:
            taken = self._query(action, _TAKE, digest)
        except XminAssetsError as error:
            if not is_refusal(error):
                raise
            yield  # the server has no such locks for us, and the merge refuses what was planned from an older state
            return
        while not taken:
            waited = time.monotonic() - began
            if waited >= timeout:
                raise TableBusy(
                    f"{table.label}: another sync of this table was at work for all of the {timeout:.0f} s that this "
                    f"one waited ({self._holder(action, digest)}). It brings what this one would have; raise "
                    "queue_timeout to wait longer."
                )
            if waited >= _REPORT_AFTER and not is_reported:
                is_reported = True
                who = self._holder(action, digest)
                on_progress(Progress(table.label, "snapshot", 0, 0, f"waiting: another sync is at work ({who})"))
            check_cancelled()
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE)
            taken = self._query(action, _TAKE, digest)
        try:
            yield
        finally:
            with suppress(XminAssetsError):  # a session that is lost has given back its locks
                self._query(action, _RELEASE, digest)

    def _holder(self, action: str, digest: str) -> str:
        pid = self._query(action, _HOLDER, digest)
        return f"backend {pid} of the target" if pid else "it ends just now"

    def _query(self, action: str, statement: str, digest: str) -> int | None:
        with self._guard:
            try:
                cursor = self._cursor or self._open_session(action)
                with translate_errors(self._target, action):
                    cursor.execute(statement, {"table": digest})
                    return fetch_value_if_any(cursor, int)
            except XminAssetsError:
                self._close_session()
                raise

    def _open_session(self, action: str) -> ext.cursor:
        connection = self._session.enter_context(self._target.extra_connection())
        begun = self._session.enter_context(transaction(self._target, connection, TransactionMode.READ, action))
        # Cut and not committed: a proxy would lend a session that is still in order to others, with its locks.
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


@contextmanager
def hold_table_lock(
    target: Database, table: TableConfig, timeout: float, on_progress: ProgressCallback = ignore_progress
) -> Iterator[None]:
    """Hold the lock of one table, for a process that syncs no other."""
    with TableLocks(target) as table_locks, table_locks.hold(table, timeout, on_progress):
        yield
