"""Whose turn it is: one sync of a table works at a time, whoever started it, and the others wait.

Nothing that is promised depends on it: of two syncs that did work side by side, the merge refuses the one that was
planned from an older state. With it none has to be refused.

All turns of a process are advisory locks of one session, within one transaction that stays open. So a
transaction-pooling proxy keeps the session for us, a process that ends in any way gives its turns back at once, and the
transaction, which has neither an id nor a snapshot between its statements, holds back no vacuum
(https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg2.extensions as ext

from xmin_assets.config import TableConfig
from xmin_assets.errors import TableBusy, XminAssetsError
from xmin_assets.postgres.connection import Database, check_cancelled
from xmin_assets.postgres.transaction import HEARTBEAT, TransactionMode, transaction, translate_errors
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback, ignore_progress

_TAKE = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtext('xmin_assets table lock'), pg_catalog.hashtext(%s))"


_GIVE_BACK = (
    "SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtext('xmin_assets table lock'), pg_catalog.hashtext(%s))"
)


# pg_locks shows the two keys as oids, which have no sign.
_WHO = """
SELECT pid
  FROM pg_catalog.pg_locks
 WHERE locktype = 'advisory' AND objsubid = 2 AND granted
   AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND classid::int8 = pg_catalog.hashtext('xmin_assets table lock')::int8 & 4294967295
   AND objid::int8 = pg_catalog.hashtext(%s)::int8 & 4294967295
"""


_LONGEST_PAUSE = 0.5
"""Seconds between two questions whether it is our turn."""


_WORTH_A_WORD = 1.0
"""Seconds of waiting after which people are told."""


class TableLocks:
    """The turns of this process in one target database.

    Args:
        target: one connection beside its limit is opened when the first turn is asked for.
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
            self._leave()

    def prepare(self) -> None:
        """Begin to open the connection, for the turn that is asked for soon."""

        def join() -> None:
            with self._guard:
                if self._cursor or self._ended.is_set():
                    return
                try:
                    self._join("waiting for turns")
                except XminAssetsError:  # whoever asks for a turn is told
                    self._leave()

        threading.Thread(target=join, name="xmin-turns-connect", daemon=True).start()

    @contextmanager
    def hold(
        self, table: TableConfig, timeout: float, on_progress: ProgressCallback = ignore_progress
    ) -> Iterator[None]:
        """Wait until no other sync of the table is at work, and keep others waiting until the end.

        Args:
            table: whose target it is about.
            timeout: seconds to wait.
            on_progress: told that we wait.

        Raises:
            TableBusy: another sync is still at work.
            XminAssetsError: the target failed.
        """
        action, digest = f"{table.label}: waiting for its turn", table.target_name.digest
        began, pause, told = time.monotonic(), 0.02, False
        while not self._ask(action, _TAKE, digest):
            waited = time.monotonic() - began
            if waited >= timeout:
                raise TableBusy(
                    f"{table.label}: another sync of this table was at work for all of the {timeout:.0f} s that this "
                    f"one waited ({self._holder(action, digest)}). It brings what this one would have; raise "
                    "queue_timeout to wait longer."
                )
            if waited >= _WORTH_A_WORD and not told:
                told = True
                who = self._holder(action, digest)
                on_progress(Progress(table.label, "snapshot", 0, 0, f"waiting: another sync is at work ({who})"))
            check_cancelled()
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE)
        try:
            yield
        finally:
            with suppress(XminAssetsError):  # a session that is lost has given back its turns
                self._ask(action, _GIVE_BACK, digest)

    def _holder(self, action: str, digest: str) -> str:
        pid = self._ask(action, _WHO, digest)
        return f"backend {pid} of the target" if pid else "it ends just now"

    def _ask(self, action: str, question: str, digest: str) -> Any:
        with self._guard:
            try:
                cursor = self._cursor or self._join(action)
                with translate_errors(self._target, action):
                    cursor.execute(question, (digest,))
                    return (cursor.fetchone() or (None,))[0]
            except XminAssetsError:
                self._leave()
                raise

    def _join(self, action: str) -> ext.cursor:
        connection = self._session.enter_context(self._target.extra_connection())
        begun = self._session.enter_context(transaction(self._target, connection, TransactionMode.READ, action))
        # Cut and not committed: a proxy would lend a session that is still in order to others, with its turns.
        self._session.callback(connection.close)
        self._cursor = begun
        threading.Thread(target=self._stay, args=(self._cursor,), name="xmin-turns", daemon=True).start()
        return self._cursor

    def _leave(self) -> None:
        self._cursor = None
        with suppress(XminAssetsError):
            self._session.close()

    def _stay(self, cursor: ext.cursor) -> None:
        # Else idle_in_transaction_session_timeout would take us for a process that is stuck.
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
    """As `TableLocks.hold`, for who has only one table to sync."""
    with TableLocks(target) as table_locks, table_locks.hold(table, timeout, on_progress):
        yield
