"""Runs a scenario: all competitors in turns, each with a target database of its own, prepared the same way.

Before every run both servers write what is dirty, and the target's tables are vacuumed and analyzed. Nobody pays for
what he has not done: a change of the source is followed by a scan that leaves its hint bits, and in a scenario that
begins with an empty target the baseline goes through it once before it counts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from psycopg2 import sql

from benchmarks.columns import Column
from benchmarks.competitor import Competitor, CompetitorFailed, Task
from benchmarks.data import Change, Dataset
from benchmarks.equality import Contents, compare, contents_of
from benchmarks.results import Measurement, Results, Skipped
from benchmarks.scenarios import Scenario, Trial
from benchmarks.servers import Servers, Written
from xmin_assets_tests.clusters import Database

Say = Callable[[str], None]

ROOM = 8
"""Bytes on the disk for every byte of data: the source, two copies, the spool, indexes, and WAL on both sides."""


@dataclass
class Copy:
    """A competitor's target database and working folder."""

    database: Database
    folder: Path


@dataclass
class Arena:
    """A dataset at the source, and the copies that competitors keep of it from one scenario to the next."""

    servers: Servers
    dataset: Dataset
    source: Database
    _copies: dict[str, Copy] = field(default_factory=dict)
    _contents: dict[str, tuple[list[Column], Contents]] | None = None
    _turn: int = 0
    _since: int = 0

    @classmethod
    def build(cls, servers: Servers, dataset: Dataset) -> Arena:
        """Make the source's tables."""
        source = Database.create(servers.source)
        for statement in dataset.statements:
            source.execute(statement)
        source.execute("VACUUM (ANALYZE)")
        return cls(servers, dataset, source)

    @property
    def data_bytes(self) -> int:
        """The source's tables, without their indexes."""
        ((size,),) = self.source.fetch(
            "SELECT sum(pg_table_size(c.oid))::int8 FROM pg_class c WHERE c.relkind = 'r' AND c.relname = ANY(%s)",
            (list(self.dataset.tables),),
        )
        return int(size)

    @property
    def contents(self) -> dict[str, tuple[list[Column], Contents]]:
        """What the source holds now."""
        if self._contents is None:
            self._contents = contents_of(self.source, self.dataset.tables)
        return self._contents

    def change(self, change: Change) -> None:
        """Make a change that no turn before has made, and remember since when."""
        self.source.execute("VACUUM (ANALYZE)")
        ((self._since,),) = self.source.fetch("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8")
        for table in self.dataset.tables:
            self.source.execute(change.statement(table, self._turn))
            # The first to read a row that was written asks whether that was committed, and notes it: not a competitor.
            self.source.fetch(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", table)))
        self._turn += 1
        self._contents = None

    def empty(self, competitor: Competitor) -> Task:
        """Return a copy of nothing, in the place of the one that the competitor has."""
        self.forget(competitor)
        folder = self.servers.folder / competitor.copy
        folder.mkdir(mode=0o700)
        self._copies[competitor.copy] = Copy(Database.create(self.servers.target), folder)
        return self.task(competitor)

    def has_copy(self, competitor: Competitor) -> bool:
        """Return whether it has loaded one."""
        return competitor.copy in self._copies

    def task(self, competitor: Competitor) -> Task:
        """Build the task to bring its copy up to date."""
        copy = self._copies[competitor.copy]
        return Task(self.servers, self.source, copy.database, self.dataset.tables, copy.folder, since=self._since)

    def forget(self, competitor: Competitor) -> None:
        """Remove the copy that a competitor may have."""
        self._remove(competitor.copy)

    def _remove(self, name: str) -> None:
        if old := self._copies.pop(name, None):
            old.database.drop()
            shutil.rmtree(old.folder)

    def close(self) -> None:
        """Remove the tables and all copies."""
        for name in list(self._copies):
            self._remove(name)
        self.source.drop()


def run(servers: Servers, trials: Sequence[Trial], results: Results, output: Path, say: Say) -> None:
    """Run trials, those of one dataset on the same tables, and write the results after each of them."""
    for _, group in groupby(trials, lambda trial: (trial.dataset.name, trial.dataset.rows)):
        same = list(group)
        dataset = same[0].dataset
        if lacking := _lacking(servers, dataset):
            say(f"{dataset.name} is left out: {lacking}")
            results.skipped += [Skipped(trial.scenario.name, f"{dataset.rows:,} rows", lacking) for trial in same]
            continue
        say(f"{dataset.rows:,} rows are made: {dataset.name}")
        with closing(Arena.build(servers, dataset)) as arena:
            for trial in same:
                measured, skipped = run_heat(arena, trial.scenario, trial.competitors, results.options["runs"], say)
                results.measurements += measured
                results.skipped += skipped
                results.write(output)


def run_heat(
    arena: Arena, scenario: Scenario, competitors: Sequence[Competitor], runs: int, say: Say
) -> tuple[list[Measurement], list[Skipped]]:
    """Let the competitors take turns; one that fails is out, and the others go on."""
    skipped: list[Skipped] = []
    racing: list[Competitor] = []

    def drop_out(competitor: Competitor, reason: str) -> None:
        say(f"{scenario.title}: {competitor.name} is skipped: {reason}")
        skipped.append(Skipped(scenario.name, competitor.name, reason))
        arena.forget(competitor)

    for competitor in competitors:
        if reason := competitor.obstacle(arena.servers):
            drop_out(competitor, reason)
            continue
        if not scenario.fresh and not arena.has_copy(competitor):
            say(f"{scenario.title}: {competitor.name} loads")
            try:
                competitor.load(arena.empty(competitor))
            except CompetitorFailed as error:
                drop_out(competitor, str(error))
                continue
        racing.append(competitor)
    if scenario.fresh:
        scenario.baseline.load(arena.empty(scenario.baseline))

    measurements: list[Measurement] = []
    for turn in range(1, runs + 1):
        if scenario.change:
            arena.change(scenario.change)
        for competitor in list(racing):
            try:
                measured = _measure(arena, scenario, competitor, turn)
            except CompetitorFailed as error:
                racing.remove(competitor)
                drop_out(competitor, str(error))
                continue
            say(f"{scenario.title}, run {turn}: {competitor.name} {measured.seconds:.3f} s, {measured.verdict}")
            measurements.append(measured)
    return measurements, skipped


def _lacking(servers: Servers, dataset: Dataset) -> str | None:
    needed, free = dataset.bytes * ROOM, shutil.disk_usage(servers.folder).free
    return f"it needs {needed >> 30} GiB of disk, {free >> 30} are free" if needed > free else None


def _measure(arena: Arena, scenario: Scenario, competitor: Competitor, turn: int) -> Measurement:
    task = arena.empty(competitor) if scenario.fresh else arena.task(competitor)
    task.target.execute("VACUUM (ANALYZE)")
    arena.servers.checkpoint()
    before = Written.now(arena.servers.target)
    outcome = competitor.load(task) if scenario.fresh else competitor.sync(task)
    wal = Written.now(arena.servers.target).wal - before.wal
    # A session reports what it wrote when it ends at the latest.
    task.target.disconnect()
    arena.servers.checkpoint()
    files = Written.now(arena.servers.target).files
    return Measurement(
        scenario=scenario.name,
        title=scenario.title,
        competitor=competitor.name,
        role=competitor.role,
        run=turn,
        rows=arena.dataset.rows,
        data_bytes=arena.data_bytes,
        seconds=outcome.seconds,
        memory_bytes=outcome.memory_bytes,
        spool_bytes=outcome.spool_bytes,
        left_bytes=outcome.left_bytes,
        wal_bytes=wal,
        written_bytes=None if files is None or before.files is None else files - before.files,
        verdict=compare(arena.contents, task.target),
        parts=outcome.parts,
    )
