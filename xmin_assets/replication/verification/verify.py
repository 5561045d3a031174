"""Whether the target's rows are the source's: counted, summed up and, where that differs, compared row by row.

The target's snapshot comes first. It has the rows and the watermark of one and the same merge, whatever merges after
it; the source's snapshot is later than the one that this merge was read under, so what differs is either a fault or
newer than the watermark.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from psycopg2 import sql

from xmin_assets.config import Mode, ReplicationConfig, Settings, TableConfig, load_config
from xmin_assets.errors import ConfigError, PlanOutdated
from xmin_assets.postgres import catalog, xid
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.server import flushed_lsn, horizon
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.planning.resume_point import caught_up
from xmin_assets.replication.planning.source_identity import (
    RESTARTED,
    altered_leaves,
    same_id_other_values,
    started_anew,
)
from xmin_assets.replication.runtime.databases import open_databases, unreachable
from xmin_assets.replication.runtime.progress import Progress, Report, silent
from xmin_assets.replication.runtime.retries import persistently, side_by_side
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.scan import cursor_column
from xmin_assets.replication.scan.conditions import fulfils
from xmin_assets.replication.scan.where_clause import left, search_path
from xmin_assets.replication.schema.own_columns import alive
from xmin_assets.replication.state.history import MergeXids
from xmin_assets.replication.verification.buckets import Buckets, count_both, differing
from xmin_assets.replication.verification.classification import Judge, Kind, Rules, Verdict
from xmin_assets.replication.verification.column_pairs import pair, watermark_lost
from xmin_assets.replication.verification.row_diff import compare, source_ids, target_ids
from xmin_assets.replication.verification.sides import Shape, Side
from xmin_assets.replication.verification.snapshots import opened_source, opened_target

FEW_ROWS = 10_000
"""Up to so many rows in the target all are compared one by one: in a part of a small table there would be too few to
tell by whether its rows are usually written by merges alone."""


@dataclass(frozen=True)
class TableVerification:
    """How one table's source and target compare: the row that `xmin-assets verify --json` prints for it."""

    table: str
    status: Literal["match", "mismatch", "failed"]
    missing: int = 0
    """Rows that the source has and the target lacks."""
    extra: int = 0
    """Rows that the target has and the source never had."""
    different: int = 0
    """Rows with other values."""
    pending: int = 0
    """Rows that differ because the source changed since the last sync; the next one brings them. No mismatch."""
    rows_source: int = 0
    rows_target: int = 0
    """Rows that were compared on each side."""
    examples: dict[Kind, list[dict[str, str]]] = field(default_factory=dict)
    """Keys, up to 5 of each kind, as texts by column."""
    note: str | None = None
    """What limits the comparison."""
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Verification:
    """How all tables compare."""

    tables: tuple[TableVerification, ...]

    @property
    def ok(self) -> bool:
        """True if every table matches."""
        return all(table.status == "match" for table in self.tables)


def verify_tables(
    config: ReplicationConfig | None = None,
    *,
    tables: Sequence[str] = (),
    sample: float | None = None,
    report: Report = silent,
) -> Verification:
    """Compare target tables with their sources, side by side; one that fails does not stop the others.

    Nothing is written, and both sides may be written to meanwhile.

    Args:
        config: what is replicated; None loads the file that XMIN_CONFIG names.
        tables: names of the tables to compare; none means all.
        sample: share of the rows to compare, above 0 and up to 1, another choice each time; None compares all.
        report: told of every step forward, from several threads.

    Raises:
        ConfigError: the configuration is wrong or names no such table, or the sample is no share.
    """
    config = config or load_config()
    chosen = config.select(list(tables))
    if sample is not None and not 0 < sample <= 1:
        raise ConfigError(f"A sample is a share of the rows, above 0 and up to 1; {sample} is not.")
    with open_databases(config) as (source, target):
        reason = unreachable(source, target)

        def verify(table: TableConfig) -> TableVerification:
            if reason:
                return TableVerification(table=table.label, status="failed", error=reason)
            return persistently(
                table,
                "verify",
                report,
                lambda: verify_table(source, target, table, config.settings, sample=sample, report=report),
                lambda error: TableVerification(table=table.label, status="failed", error=str(error)),
            )

        return Verification(tuple(side_by_side(verify, chosen, workers_for(config.settings))))


def verify_table(
    source: Database,
    target: Database,
    table: TableConfig,
    settings: Settings,
    *,
    sample: float | None = None,
    report: Report = silent,
) -> TableVerification:
    """Compare one table.

    Raises:
        NotComparable: the table was never synced, or its columns are not those that the last sync left.
        XminAssetsError: a side failed.
    """
    began, workers = time.monotonic(), workers_for(settings)
    deadline = began + settings.max_snapshot_age
    here, there = f"{table.label}: reading the target", f"{table.label}: reading the source"
    with (
        opened_target(target, table, here) as copy,
        opened_source(source, table, copy.state, there) as original,
    ):
        # What the next sync resumes from decides what it brings.
        state = caught_up(copy.state, original.facts.server, lambda lsn: flushed_lsn(original.cursor, lsn) is not None)
        selection = state.selection
        pairing = pair(table.label, state, original.facts, original.attributes, copy.attributes)
        source_key, target_key = pairing.key(selection.key)
        portable = {original.facts.server.encoding, copy.encoding} != {"UTF8"}
        has_number = pairing.has_number(selection.key)
        path = search_path(original.cursor, table.source_name) if selection.where else ()
        ours = Shape(pairing.source, source_key, fulfils(selection.where), portable, has_number, path)
        theirs = Shape(pairing.target, target_key, alive(selection), portable, has_number)
        return _Comparison(
            table,
            state,
            original.facts,
            copy.merges,
            Side(source, original.cursor, table.source_name, original.leaves, ours, there, workers, deadline),
            Side(target, copy.cursor, table.target_name, copy.leaves, theirs, here, workers, deadline),
            watermark_lost(table, original.facts, state),
            pairing.left_out,
        ).run(sample, report, began)


@dataclass(frozen=True)
class _Comparison:
    """Both sides of a table, and what the last sync left."""

    table: TableConfig
    state: State
    facts: SourceFacts
    merges: MergeXids
    source: Side
    target: Side
    watermark_lost: str | None
    left_out: tuple[str, ...]

    def run(self, sample: float | None, report: Report, began: float) -> TableVerification:
        """Both passes, and what comes of them."""
        telling = _Telling(self.table.label, 2 * round(self.state.rows * (sample or 1)), report)
        buckets = Buckets.for_rows(self.state.rows, sample)
        ours, theirs = count_both(self.source, self.target, buckets, telling.told)
        now = None if self.watermark_lost else xid.present(self.source.cursor, self.facts.horizon)
        judge = Judge(self._rules(now))
        if rest := differing(ours, theirs, buckets):
            if theirs.all_rows <= FEW_ROWS:
                rest = buckets
            telling.note(f"comparing the rows of {rest.looked_at} parts row by row")
            compare(self.source, self.target, rest, judge, ids=self._ids(now), told=telling.told)
        oids = (self.facts.identity.relation_oid, self.state.target_oid)
        for side, oid in zip((self.source, self.target), oids, strict=True):
            if catalog.renamed(side.cursor, {oid: side.table}):
                raise PlanOutdated(f"{side.table} got another name while it was read. Run it again.")
        verdict = judge.verdict(self.state.rows, theirs.all_rows if buckets.chosen is None else None)
        telling.end()
        tallies = verdict.tallies
        return TableVerification(
            table=self.table.label,
            status=_status(verdict),
            missing=tallies["missing"].count,
            extra=tallies["extra"].count,
            different=tallies["different"].count,
            pending=tallies["pending"].count,
            rows_source=ours.all_rows,
            rows_target=theirs.all_rows,
            examples=self._examples(verdict),
            note="; ".join(self._notes(buckets, verdict)) or None,
            seconds=round(time.monotonic() - began, 4),
        )

    @property
    def _known(self) -> set[int]:
        """The relations whose rows the last sync has read, and the next one reads if they changed."""
        return {leaf.oid for leaf in self.state.identity.leaves} - {*altered_leaves(self.state.identity, self.facts)}

    @property
    def _fresh(self) -> set[int]:
        """Those that the next one reads whole: the last one did not know them, or they were altered since."""
        return {leaf.oid for leaf in self.source.leaves} - self._known

    def _rules(self, now: int | None) -> Rules:
        return Rules(
            watermark=None if self.watermark_lost else self.state.watermark,
            next_compares_values=self.table.mode is not Mode.XMIN_INCREMENTAL
            or same_id_other_values(
                self.state,
                new_leaves=bool(self._fresh),
                started_anew=started_anew(self.facts, self.state),
            ),
            merges=self.merges,
            keeps_deleted=self.state.selection.deletes == "ignore",
            # Whatever deletes rows takes a transaction id, but for a crash that empties what is UNLOGGED.
            none_deleted=now == self.state.watermark
            and not self.state.deletes_left
            and not any(leaf.unlogged for leaf in self.source.leaves),
        )

    def _ids(self, now: int | None) -> tuple[sql.Composable, sql.Composable]:
        here = xid.present(self.target.cursor, horizon(self.target.cursor))
        return (
            source_ids(now, self._known, self._fresh, self._sought()),
            target_ids(here, self.state.selection.xmin_column),
        )

    def _sought(self) -> sql.Composable | None:
        """The condition that a new row is read by the next sync, where changes are told by a cursor."""
        state, selection = self.state, self.facts.selection
        if selection.cursor is None or selection.cursor != state.selection.cursor:
            return None
        plan = Plan(Mode.INCREMENTAL_SYNC, "", cursor_from=state.cursor)
        # The catalog is asked under an empty search_path.
        with left(self.source.cursor, self.source.shape.path):
            return cursor_column.condition(self.source.cursor, self.table, plan, selection)

    def _notes(self, buckets: Buckets, verdict: Verdict) -> Iterator[str]:
        if self.watermark_lost:
            yield f"every difference counts, none as pending: {self.watermark_lost}"
        elif started_anew(self.facts, self.state) and _status(verdict) == "mismatch":
            yield f"{RESTARTED} since the last sync, which may have undone what that saw; the next compares all rows"
        if self.left_out:
            yield f"not compared: {', '.join(self.left_out)}"
        if buckets.chosen is not None:
            yield f"a sample: {buckets.looked_at} of {buckets.number} parts of the table"
        if verdict.is_vague:
            yield "the number of extra rows is known from the counts, but not which ones they are"

    def _examples(self, verdict: Verdict) -> dict[Kind, list[dict[str, str]]]:
        def readable(text: str) -> str:
            return bytes.fromhex(text).decode() if self.target.shape.portable else text

        names = [column.name for column in self.target.shape.key] or ["row"]
        return {
            kind: [dict(zip(names, map(readable, key), strict=True)) for key in tally.keys]
            for kind, tally in verdict.tallies.items()
        }


class _Telling:
    """Says how far a comparison is."""

    def __init__(self, table: str, total: int, report: Report) -> None:
        self._table = table
        self._total = total
        self._report = report
        self._done = 0
        self._guard = threading.Lock()

    def told(self, rows: int) -> None:
        """So many rows more were read, on either side."""
        with self._guard:
            self._done += rows
            # As many as there were after the last sync: an estimate, and not the end.
            self._report(Progress(self._table, "verify", self._done, max(self._total, self._done + 1)))

    def note(self, text: str) -> None:
        """A line for people."""
        self._report(Progress(self._table, "verify", self._done, 0, text))

    def end(self) -> None:
        """All is read."""
        self._report(Progress(self._table, "verify", self._done, self._done))


def _status(verdict: Verdict) -> Literal["match", "mismatch"]:
    faults: tuple[Kind, ...] = ("missing", "extra", "different")
    return "mismatch" if any(verdict.tallies[kind].count for kind in faults) else "match"
