"""Workers that read one table under one snapshot.

The coordinator holds the snapshot and works, too. Other threads import its snapshot on connections of their own. None
of them is needed: a thread that gets no connection or no lock, or loses either, puts its task back and ends, and the
coordinator finishes the work. So nothing that happens to a thread can tear the snapshot.

A thread asks for its lock with NOWAIT. Otherwise a session that waits for ACCESS EXCLUSIVE behind the coordinator's
lock would let the thread queue behind it, while the coordinator waits for the thread: a deadlock that the server cannot
see.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import TerminalError, TransientError, XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.server import export_snapshot, may_export, which_snapshot
from xmin_assets.postgres.transaction import HEARTBEAT, TransactionMode, transaction, translate_errors


class Worker(Protocol):
    """An object that does tasks on one cursor: the coordinator has one, and so has every other thread."""

    def keep(self) -> None:
        """Keep the results of the task that was just finished."""

    def discard(self) -> None:
        """Forget the task that was being done when something failed."""


AnyWorker = TypeVar("AnyWorker", bound=Worker)

Task = TypeVar("Task")

Job = Callable[[AnyWorker], None]


class SnapshotWorkers(Generic[AnyWorker]):
    """The coordinator and up to `workers` - 1 threads, all reading under the coordinator's snapshot.

    Args:
        database: where the threads get their connections.
        coordinator: the cursor whose transaction holds the snapshot and the lock.
        table: what to lock.
        workers: how many may read at the same time, the coordinator included.
        make_worker: makes a worker from a cursor and its number; the coordinator is number 0. Called in the worker's
            thread.
        deadline: monotonic time in seconds at which the snapshot has been held for too long.
        action: the beginning of an error's sentence.
    """

    def __init__(
        self,
        database: Database,
        coordinator: ext.cursor,
        table: QualifiedName,
        workers: int,
        make_worker: Callable[[ext.cursor, int], AnyWorker],
        deadline: float,
        action: str,
    ) -> None:
        self._database = database
        self._cursor = coordinator
        self._table = table
        self._make_worker = make_worker
        self._deadline = deadline
        self._action = action
        self._coordinator = make_worker(coordinator, 0)
        self._most_threads = workers - 1
        self._threads: list[threading.Thread] = []
        self._snapshot = ""
        self._seen: tuple[str | None, str, int] | None = None
        self._is_alone = False
        self._changed = threading.Condition()
        self._pending: deque[Job[AnyWorker]] = deque()
        self._in_flight = 0
        self._closed = False
        self._failure: XminAssetsError | None = None

    def __enter__(self) -> SnapshotWorkers[AnyWorker]:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def run(
        self,
        tasks: Sequence[Task],
        work: Callable[[AnyWorker, Task], None],
        cost: Callable[[Task], int] = lambda _: 0,
    ) -> None:
        """Do all the tasks, in no particular order, and return when the last one is done.

        Args:
            tasks: what to do.
            work: does one.
            cost: the bytes that a task reads, which the database's budget must have.

        Raises:
            XminAssetsError: the coordinator failed, or a thread failed for a reason that will not pass.
        """
        with self._changed:
            self._pending.extend(self._job(work, task, cost(task)) for task in tasks)
            self._changed.notify_all()
        while not self._is_alone and len(self._threads) < min(self._most_threads, len(tasks) - 1):
            self._start_worker()
        while True:
            job = self._take(wait=False)
            if job is not None:
                self._do(self._coordinator, job)
            elif self._finished():
                return

    def _start_worker(self) -> None:
        if not self._snapshot:
            self._is_alone = not self._may_export()
            if self._is_alone:
                return
            self._seen = which_snapshot(self._cursor)
            self._snapshot = export_snapshot(self._cursor)
        number = len(self._threads) + 1
        thread = threading.Thread(target=self._work, args=(number,), name=f"xmin-reader-{number}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _may_export(self) -> bool:
        """Try it on another connection: a refusal here would end the snapshot."""
        with self._database.spare_connection() as connection:
            if connection is None:
                return False
            with translate_errors(self._database, self._action), connection.cursor() as cursor:
                return may_export(cursor)

    def _work(self, number: int) -> None:
        joined = False
        try:
            with self._database.spare_connection() as connection:
                if connection is None:
                    return
                with transaction(
                    self._database,
                    connection,
                    TransactionMode.READ_SNAPSHOT,
                    self._action,
                    sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self._snapshot)),
                    sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(self._table.sql),
                ) as cursor:
                    # Where one address leads to several servers, this may be another one, which may have a snapshot of
                    # this name.
                    if which_snapshot(cursor) != self._seen:
                        return
                    worker = self._make_worker(cursor, number)
                    joined = True
                    while (job := self._take(wait=True)) is not None:
                        self._do(worker, job)
        except TransientError:
            return
        except XminAssetsError as error:
            if not joined:
                return  # whatever kept it from joining, the work goes on without it
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()

    def _do(self, worker: AnyWorker, job: Job[AnyWorker]) -> None:
        try:
            self._require_time()
            job(worker)
            worker.keep()
        except BaseException:
            worker.discard()
            with self._changed:
                self._pending.append(job)
                self._in_flight -= 1
                self._changed.notify_all()
            raise
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def _take(self, wait: bool) -> Job[AnyWorker] | None:
        with self._changed:
            while True:
                if self._closed or self._failure:
                    return None
                if self._pending:
                    self._in_flight += 1
                    return self._pending.popleft()
                if not wait:
                    return None
                self._changed.wait()

    def _finished(self) -> bool:
        with self._changed:
            if self._failure:
                raise self._failure
            if not self._pending and not self._in_flight:
                return True
            woken = self._pending or self._changed.wait(HEARTBEAT)
        if not woken:
            self._cursor.execute("SELECT 1")
        return False

    def most_at_once(self, size: int) -> int:
        """Return how many bytes a task should read: `size`, or what the database's budget says."""
        return self._database.most_at_once(size)

    def pay(self, size: int) -> None:
        """Wait until the database's budget lets so many bytes be read.

        Raises:
            TerminalError: the snapshot was held for too long meanwhile.
            Cancelled: `cancel_all` was called.
        """
        if self._database.budget:
            self._database.budget.pay(size, self._deadline)
            self._require_time()

    def _require_time(self) -> None:
        if time.monotonic() > self._deadline:
            slower = "a higher max_read_rate" if self._database.budget else "more workers"
            raise TerminalError(
                f"{self._action}: the snapshot was held for longer than max_snapshot_age. Raise it, or use {slower}."
            )

    def _job(self, work: Callable[[AnyWorker, Task], None], task: Task, size: int) -> Job[AnyWorker]:
        def job(worker: AnyWorker) -> None:
            self.pay(size)
            began = time.monotonic()
            work(worker, task)
            if size and self._database.courtesy:
                self._database.courtesy.make_way(time.monotonic() - began, self._deadline)

        return job
