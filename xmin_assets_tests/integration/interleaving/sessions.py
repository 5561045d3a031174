"""Sessions at the source that are stepped by hand, and statements that are left waiting for a lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

from xmin_assets_tests.clusters import Database
from xmin_assets_tests.waiting import DEADLINE, wait_until

T = TypeVar("T")


class Session:
    """One session. A statement outside of `BEGIN` is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.connect()
        self.pid = self._connection.info.backend_pid
        self.run(f"SET lock_timeout = '{DEADLINE}s'")

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement, or several; the rows of the last one."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """End the session, and with it a transaction that is open."""
        self._connection.close()

    def begin(self) -> int:
        """Begin a transaction and take its xid."""
        self.run("BEGIN")
        return self.xid()

    def xid(self) -> int:
        """The xid64 of the current transaction."""
        ((xid,),) = self.run("SELECT pg_current_xact_id()::text::int8")
        return int(xid)

    def can_commit(self) -> bool:
        """Whether it is in a transaction, and not in one that has failed."""
        return self._connection.info.transaction_status == TRANSACTION_STATUS_INTRANS

    def is_waiting(self) -> bool:
        """Whether this session waits for a lock at this moment."""
        return bool(
            self._database.fetch(
                "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", (self.pid,)
            )
        )

    def start(self, statement: str) -> None:
        """Run a statement that has to wait for a lock, and return when it waits."""
        self._running = Running(lambda: self.run(statement))
        wait_until(lambda: self.is_waiting() or self._running.ended)
        assert not self._running.ended, f"{statement} did not wait: {self._running.result()}"

    def finish(self) -> list[tuple[Any, ...]]:
        """Wait for the end of the statement that was started; its rows."""
        return self._running.result()


class Running(Generic[T]):
    """Work that goes on in a thread of its own."""

    def __init__(self, work: Callable[[], T]) -> None:
        pool = ThreadPoolExecutor(1)
        self._future = pool.submit(work)
        pool.shutdown(wait=False)

    @property
    def ended(self) -> bool:
        return self._future.done()

    def result(self) -> T:
        """What the work returned or raised, when it has ended."""
        return self._future.result(timeout=2 * DEADLINE)


def until_engine_waits(source: Database, running: Running[Any]) -> None:
    """Return when a session of the engine waits for a lock at the source."""
    waiting = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'xmin_assets'"
        " AND wait_event_type = 'Lock'"
    )
    wait_until(lambda: bool(source.fetch(waiting)) or running.ended)
    assert not running.ended, f"the engine did not wait: {running.result()}"
