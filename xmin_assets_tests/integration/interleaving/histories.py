"""Random histories: what several sessions may do to one table, and syncs of every kind in between.

A statement may fail, as statements do, when it would have to wait for another session or breaks the key: then its
transaction is broken until it is rolled back. No model predicts the rows. What the source shows under the snapshot
of a sync is what the target must have after it; `WatchedTable` holds both and the counts against each other.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import ClassVar

import psycopg2
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from psycopg2 import errorcodes

from xmin_assets.errors import LockTimeout, PlanOutdated, StaleExtract
from xmin_assets_tests.integration.interleaving.harness import Passage, Step, WatchedTable
from xmin_assets_tests.integration.interleaving.sessions import Session

WRITERS = 3

FAILURES = {
    errorcodes.LOCK_NOT_AVAILABLE,
    errorcodes.UNIQUE_VIOLATION,
    errorcodes.IN_FAILED_SQL_TRANSACTION,
    errorcodes.NO_ACTIVE_SQL_TRANSACTION,
    errorcodes.ACTIVE_SQL_TRANSACTION,
    errorcodes.INVALID_SAVEPOINT_SPECIFICATION,
    errorcodes.SERIALIZATION_FAILURE,
}

MANY_SUBTRANSACTIONS = """
DO $$ BEGIN
    FOR k IN 1..70 LOOP
        BEGIN
            UPDATE t SET v = '{n}.' || k WHERE id = {i} OR id = k;
            IF k % 2 = 0 THEN RAISE division_by_zero; END IF;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END LOOP;
END $$
"""
BEGIN = ["BEGIN", "BEGIN; SELECT pg_current_xact_id()", "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM t"]
SAVEPOINTS = ["SAVEPOINT a", "SAVEPOINT b", "SAVEPOINT b", "ROLLBACK TO a", "ROLLBACK TO b", "RELEASE a"]
END = ["COMMIT", "COMMIT", "ROLLBACK"]
WRITE = [
    "INSERT INTO t SELECT {i}, {part}, '{n}' WHERE NOT EXISTS (SELECT FROM t WHERE (id, part) = ({i}, {part}))",
    "INSERT INTO t SELECT i, {part}, '{n}' FROM generate_series(100 + {n}, 102 + {n}) i",
    "UPDATE t SET v = '{n}' WHERE id = {i}",
    "UPDATE t SET v = '{n}' WHERE id >= {i}",
    "UPDATE t SET v = v WHERE id = {i}",
    "UPDATE t SET id = {j} WHERE id = {i}",
    "UPDATE t SET id = {i} + {j} - id WHERE id IN ({i}, {j})",
    "UPDATE t SET part = {part} WHERE id = {i}",
    "UPDATE t SET part = (part + 1) % 3 WHERE id >= {i}",
    "DELETE FROM t WHERE id = {i}",
    "DELETE FROM t WHERE id >= 100",
    "DELETE FROM t WHERE id = {i}; INSERT INTO t VALUES ({i}, {part}, '{n}')",
    "SELECT FROM t WHERE id = {i} FOR UPDATE",
    "SELECT FROM t WHERE id = {i} FOR KEY SHARE",
    MANY_SUBTRANSACTIONS,
]
REWRITE = [
    "TRUNCATE t",
    "TRUNCATE t; INSERT INTO t SELECT i, {part}, '{n}' FROM generate_series(1, 6) i",
    "ALTER TABLE t ALTER v TYPE text USING v || '!'",
    "ALTER TABLE t DROP COLUMN IF EXISTS c; ALTER TABLE t ADD COLUMN c text DEFAULT '{n}'",
]
MAINTENANCE = ["CHECKPOINT", "CHECKPOINT", "VACUUM t", "VACUUM (FREEZE) t", "VACUUM FULL t"]

GROUPS = (WRITE, WRITE, BEGIN, BEGIN, SAVEPOINTS, END, REWRITE, MAINTENANCE)

texts = st.one_of(*(st.sampled_from(group) for group in GROUPS))
ids, parts = st.integers(1, 9), st.integers(0, 2)
statements = st.tuples(st.integers(0, WRITERS - 1), texts, ids, ids, parts)
few = st.lists(statements, max_size=3)
Statement = tuple[int, str, int, int, int]


LOCKED = """
SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
 WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.mode = 'AccessExclusiveLock' AND l.granted AND c.relnamespace = 'public'::regnamespace
"""


class Histories(RuleBasedStateMachine):
    """One history of a table that is made anew for each."""

    table: ClassVar[WatchedTable]
    create: ClassVar[str]
    writers: ClassVar[list[Session]]
    vacuum: ClassVar[Session]

    def __init__(self) -> None:
        super().__init__()
        self._number = 0
        self._prepared: list[str] = []
        self._held = ExitStack()
        self._held_passage: Passage | None = None
        self._staged_since = self._merged_since = False

    @initialize(rows=st.integers(0, 12), synced=st.booleans())
    def begin(self, rows: int, synced: bool) -> None:
        for database in (self.table.source, self.table.target):
            database.execute("DROP TABLE IF EXISTS t; DROP SCHEMA IF EXISTS xmin_assets CASCADE")
        self.table.source.execute(self.create)
        self.table.source.execute("INSERT INTO t SELECT i, i %% 3, 'first' FROM generate_series(1, %s) i", (rows,))
        if synced:
            self.table.sync()

    @rule(statement=statements)
    def run(self, statement: Statement) -> None:
        self._run(statement)

    @rule(writer=st.integers(0, WRITERS - 1), text=st.sampled_from(WRITE), i=ids, j=ids, part=parts)
    def write(self, writer: int, text: str, i: int, j: int, part: int) -> None:
        self._run((writer, text, i, j, part))

    @rule(writer=st.integers(0, WRITERS - 1))
    def prepare(self, writer: int) -> None:
        if len(self._prepared) < 5 and self.writers[writer].can_commit():
            gid = f"p{self._next()}"
            self.writers[writer].run(f"PREPARE TRANSACTION '{gid}'")
            self._prepared.append(gid)

    @precondition(lambda self: self._prepared)
    @rule(first=st.booleans(), end=st.sampled_from(END))
    def end_prepared(self, first: bool, end: str) -> None:
        self.table.source.execute(f"{end} PREPARED '{self._prepared.pop(0 if first else -1)}'")

    @rule(planned=few, taken=few, copied=few, merging=few)
    def sync(
        self, planned: list[Statement], taken: list[Statement], copied: list[Statement], merging: list[Statement]
    ) -> None:
        """A sync, with statements between its stations and inside its extract."""
        with self.table.passage() as passage:
            if not self._read(passage, planned, taken, copied):
                return
            self._stage(passage)
            for statement in merging:
                self._run(statement)
            passage.merge()
            self._merged_since = True

    @precondition(lambda self: self._held_passage is None)
    @rule(planned=few, taken=few, copied=few)
    def extract_and_hold(self, planned: list[Statement], taken: list[Statement], copied: list[Statement]) -> None:
        """A sync that stands still after its extract, while others overtake it."""
        passage = self._held.enter_context(self.table.passage())
        if self._read(passage, planned, taken, copied):
            self._held_passage, self._staged_since, self._merged_since = passage, False, False
        else:
            self._held.close()

    @precondition(lambda self: self._held_passage is not None)
    @rule(stage_only=st.booleans())
    def go_on(self, stage_only: bool) -> None:
        """The sync that stood still goes on: it merges what its snapshot saw, or is refused."""
        passage = self._held_passage
        assert passage
        try:
            if passage.staged is None:
                self._stage(passage)
                self._staged_since = False
                if stage_only:
                    return
            passage.merge()
            assert not self._merged_since, "a sync merged from a state that another sync had replaced"
            self._merged_since = True
        except StaleExtract:
            assert self._merged_since or self._staged_since, "a sync was refused that nobody had overtaken"
        self._held_passage = None
        self._held.close()

    def teardown(self) -> None:
        """All sessions end; one more sync makes the target equal to the source."""
        self._held.close()
        for session in self.writers:
            session.run("COMMIT")
        for gid in self._prepared:
            self.table.source.execute(f"COMMIT PREPARED '{gid}'")
        self.table.sync()
        self.table.assert_equal()
        again = self.table.sync()
        assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)

    def _read(
        self, passage: Passage, planned: list[Statement], taken: list[Statement], copied: list[Statement]
    ) -> bool:
        """Plan and extract; False if another session keeps the table locked or has changed it after the plan."""
        before = self.table.target_rows()
        try:
            passage.snapshot()
            for statement in planned:
                self._run(statement)
            passage.extract(
                may_skip=("batch_copied",), snapshot_taken=self._step(taken), batch_copied=self._step(copied)
            )
            return True
        except LockTimeout:
            assert self._locked(), "an extract waited for a lock that nobody held"
            for session in self.writers:
                attempt(session, "COMMIT")
        except PlanOutdated:
            assert planned, "a plan was outdated though nothing ran after it"
        assert self.table.target_rows() == before
        return False

    def _stage(self, passage: Passage) -> None:
        if passage.stage().name:
            self._staged_since = True

    def _step(self, chosen: list[Statement]) -> Step:
        def step() -> None:
            for statement in chosen:
                self._run(statement)

        return step

    def _run(self, statement: Statement) -> None:
        writer, text, i, j, part = statement
        session = self.vacuum if text in MAINTENANCE else self.writers[writer]
        if text in BEGIN:
            attempt(session, "COMMIT")
        elif text in SAVEPOINTS and not session.can_commit():
            attempt(session, "COMMIT; BEGIN; SAVEPOINT a")
        attempt(session, text.format(i=i, j=j, part=part, n=self._next()))

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _locked(self) -> bool:
        return bool(self.table.source.fetch(LOCKED))


def attempt(session: Session, text: str) -> bool:
    """Run a statement that may fail; whether it did not."""
    try:
        session.run(text)
    except psycopg2.Error as error:
        note(f"    {session.pid}: {text} -> {error.diag.message_primary}")
        if error.pgcode not in FAILURES:
            raise
        return False
    note(f"    {session.pid}: {text}")
    return True
