"""A table whose every sync is watched: is the target what the source was under the snapshot that was read?

The engine's first report from `extract` comes when its snapshot is taken and nothing is read yet. Statements only run
where a test says so, so nothing commits between that snapshot and one that is taken in the report: both see the same.
What the test's snapshot sees at that point is what the target must have after the merge, version by version, and the
reported counts must be the difference between the target before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg2 import sql

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.report import TableResult
from xmin_assets.replication.runtime.progress import Progress
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.interleaving.sessions import Session
from xmin_assets_tests.replica import Replica, Stations

Row = tuple[str | None, ...]
"""All columns as the server prints them; the last one is the xid64 of the row version."""

Keyed = dict[tuple[Any, ...], dict[str, str | None]]
"""Rows by key, each of them column by column."""

Step = Callable[[], object]


class Moment(NamedTuple):
    """The source table under one snapshot. The servers of the tests are in their first epoch: an xmin is an xid64."""

    horizon: int
    columns: list[str]
    rows: list[Row]


class Counts(NamedTuple):
    inserted: int
    updated: int
    deleted: int


@dataclass
class Points:
    """The engine's reports, made into points at which a test can act; each step is taken once.

    snapshot_taken   the extract has its snapshot and has read nothing
    batch_copied     the first batch of changed rows is in its file
    reading_keys     all changed rows are in files, and the keys of all rows come next
    merging          everything is staged
    """

    observe: Callable[[], Moment]
    steps: dict[str, Step]
    moment: Moment | None = None
    retried: list[str] = field(default_factory=list)
    """Why an attempt was given up and another one begun."""

    def __call__(self, progress: Progress) -> None:
        if progress.is_retry:
            self.retried.append(progress.note)
        if progress.station == "snapshot":
            self.moment = None  # an attempt begins
        elif progress.station == "merge":
            self._reach("merging")
        elif progress.station == "extract":
            if self.moment is None:
                self.moment = self.observe()
                self._reach("snapshot_taken")
            elif not progress.note or "keys" in progress.note:
                self._reach("reading_keys" if progress.note else "batch_copied")

    def _reach(self, point: str) -> None:
        if point in self.steps:
            self.steps.pop(point)()

    def seen(self, may_skip: tuple[str, ...] = ()) -> Moment:
        """The source under the snapshot that was read. All steps but those that may be skipped must have been taken."""
        assert not self.steps.keys() - may_skip, f"the sync never came to {list(self.steps)}"
        assert self.moment is not None
        return self.moment


@dataclass
class WatchedTable:
    """One table of a source, and its copy."""

    replica: Replica
    name: str = "public.t"
    key: tuple[str, ...] = ("id",)
    options: dict[str, Any] = field(default_factory=dict)
    _observer: Session | None = field(default=None, init=False, repr=False)

    @property
    def source(self) -> Database:
        return self.replica.source

    @property
    def target(self) -> Database:
        return self.replica.target

    def session(self) -> Session:
        """Another session at the source."""
        return Session(self.source)

    def sync(self, *, may_retry: bool = False, **steps: Step) -> TableResult:
        """One sync with other sessions' steps at some of its `Points`; the target must be the snapshot's rows.

        It must succeed at the first attempt, or `may_retry`: the engine mends a target that it finds wrong, and a test
        is about how it got there.
        """
        points, before = Points(self.moment, steps), self.target_rows()
        result = self.replica.sync({"source": self.name, **self.options}, on_progress=points)
        assert may_retry or not points.retried
        counts = Counts(result.rows_inserted, result.rows_updated, result.rows_deleted)
        self._assert_merged(points.seen(), before, counts, result.watermark, result.max_xmin)
        assert result.rows_extracted >= counts.inserted + counts.updated
        return result

    @contextmanager
    def passage(self) -> Iterator[Passage]:
        """A sync whose stations are called one by one."""
        with self.replica.stations({"source": self.name, **self.options}) as stations:
            yield Passage(self, stations)

    def moment(self) -> Moment:
        """Open a snapshot at the source and read the table under it."""
        columns = self.replica.columns(self.source, QualifiedName.parse(self.name))
        self._observer = self._observer or self.session()
        self._observer.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        ((horizon,),) = self._observer.run("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8")
        listed = ", ".join(f't."{column}"::text' for column in columns)
        rows = self._observer.run(
            f"SELECT {listed}, xmin::text FROM {self.name} AS t WHERE {self.options.get('where', 'true')}"
        )
        self._observer.run("COMMIT")
        return Moment(horizon, columns, sorted(rows, key=repr))

    def assert_equal(self) -> None:
        """The target must be what the source is now."""
        now = self.moment()
        assert self.target_contents(now.columns) == now.rows

    def target_contents(self, columns: list[str]) -> list[Row]:
        """The target's rows as a `Moment` has the source's."""
        listed = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in columns)
        query = sql.SQL("SELECT {}, source_xmin::text FROM {} AS t").format(listed, self._target_name.sql)
        return sorted(self.target.fetch(query), key=repr)

    def target_rows(self) -> Keyed:
        """The target's rows by key; none where there is no table yet."""
        if self.target.fetch("SELECT to_regclass(%s)", (self.name,)) == [(None,)]:
            return {}
        columns = self.replica.columns(self.target, self._target_name)
        keys = sql.SQL(", ").join(map(sql.Identifier, self.key))
        texts = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in columns)
        query = sql.SQL("SELECT {}, {} FROM {} AS t").format(keys, texts, self._target_name.sql)
        width = len(self.key)
        return {row[:width]: dict(zip(columns, row[width:], strict=True)) for row in self.target.fetch(query)}

    @property
    def _target_name(self) -> QualifiedName:
        return QualifiedName.parse(self.name)

    def _assert_merged(self, seen: Moment, before: Keyed, counts: Counts, watermark: int, max_xmin: int) -> None:
        assert self.target_contents(seen.columns) == seen.rows
        after = self.target_rows()
        assert counts == Counts(
            inserted=len(after.keys() - before.keys()),
            updated=sum(differ(after[key], before[key]) for key in after.keys() & before.keys()),
            deleted=len(before.keys() - after.keys()),
        )
        assert watermark <= seen.horizon, "a transaction that was open under the snapshot is below the watermark"
        assert max_xmin >= max((int(row[-1] or 0) for row in seen.rows), default=0)


def differ(after: dict[str, str | None], before: dict[str, str | None]) -> bool:
    """Whether a row was written to; a column that one of the two lacks is NULL there."""
    return any(after.get(name) != before.get(name) for name in after.keys() | before.keys())


@dataclass
class Passage:
    """One sync, station by station."""

    table: WatchedTable
    stations: Stations
    planned: SourceSnapshot | None = None
    extracted: CsvExtract | None = None
    staged: StagedTable | None = None
    seen: Moment | None = None

    def snapshot(self) -> SourceSnapshot:
        self.planned = self.stations.snapshot()
        return self.planned

    def extract(self, *, may_skip: tuple[str, ...] = (), **steps: Step) -> CsvExtract:
        """Extract what was planned, with other sessions' steps at some of its `Points`."""
        assert self.planned
        points = Points(self.table.moment, steps)
        self.extracted = self.stations.extract(self.planned, points)
        self.seen = points.seen(may_skip)
        return self.extracted

    def stage(self) -> StagedTable:
        assert self.extracted
        self.staged = self.stations.stage(self.extracted)
        return self.staged

    def merge(self) -> MergedTarget:
        """Merge; the target must be what the source was under the extract's snapshot, whatever it is by now."""
        assert self.staged
        assert self.seen
        before = self.table.target_rows()
        merged = self.stations.merge(self.staged)
        if not merged.repeated:
            counts = Counts(merged.inserted, merged.updated, merged.deleted)
            self.table._assert_merged(self.seen, before, counts, merged.watermark, merged.max_xmin)
        return merged
