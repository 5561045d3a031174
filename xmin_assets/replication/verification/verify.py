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
    unproven,
)
from xmin_assets.replication.runtime.databases import open_databases, unreachable
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback, ignore_progress
from xmin_assets.replication.runtime.retries import run_concurrently, with_retries
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.scan import cursor_column
from xmin_assets.replication.scan.conditions import where_condition
from xmin_assets.replication.scan.where_clause import search_path, without_search_path
from xmin_assets.replication.schema.metadata_columns import not_deleted
from xmin_assets.replication.state.history import MergeXids
from xmin_assets.replication.state.verifications import remember_verification
from xmin_assets.replication.verification.buckets import Buckets, count_both, differing
from xmin_assets.replication.verification.classification import (
    Classification,
    DifferenceClassifier,
    DifferenceKind,
    Rules,
)
from xmin_assets.replication.verification.column_pairs import pair_columns, watermark_lost
from xmin_assets.replication.verification.row_diff import compare, source_ids, target_ids
from xmin_assets.replication.verification.sides import ComparedTable, RowFormat
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
    examples: dict[DifferenceKind, list[dict[str, str]]] = field(default_factory=dict)
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
    on_progress: ProgressCallback = ignore_progress,
) -> Verification:
    """Compare target tables with their sources, side by side; one that fails does not stop the others.

    No table is written, and both sides may be written to meanwhile. What was found is noted in the target, where the
    role may, for `table_statuses`.

    Args:
        config: what is replicated; None loads the file that XMIN_CONFIG names.
        tables: names of the tables to compare; none means all.
        sample: share of the rows to compare, above 0 and up to 1, another choice each time; None compares all.
        on_progress: called with every step forward, from several threads.

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
            return with_retries(
                table,
                "verify",
                on_progress,
                attempt=lambda: verify_table(
                    source, target, table, config.settings, sample=sample, on_progress=on_progress
                ),
                failed=lambda error: TableVerification(table=table.label, status="failed", error=str(error)),
            )

        return Verification(tuple(run_concurrently(verify, chosen, workers_for(config.settings))))


def verify_table(
    source: Database,
    target: Database,
    table: TableConfig,
    settings: Settings,
    *,
    sample: float | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> TableVerification:
    """Compare one table.

    Raises:
        NotComparable: the table was never synced, or its columns are not those that the last sync left.
        XminAssetsError: a side failed.
    """
    began = time.monotonic()
    reading_target, reading_source = f"{table.label}: reading the target", f"{table.label}: reading the source"
    with (
        opened_target(target, table, reading_target) as target_read,
        opened_source(source, table, target_read.state, reading_source) as source_read,
    ):
        facts = source_read.facts
        # What the next sync resumes from decides what it brings.
        state = caught_up(target_read.state, facts.server, lambda lsn: flushed_lsn(source_read.cursor, lsn) is not None)
        selection = state.selection
        columns = pair_columns(
            table.label, state, facts, source_columns=source_read.attributes, target_columns=target_read.attributes
        )
        source_key, target_key = columns.key(selection.key)
        encodings_differ = {facts.server.encoding, target_read.encoding} != {"UTF8"}
        has_number = columns.has_number(selection.key)
        workers, deadline = workers_for(settings), began + settings.max_snapshot_age
        comparison = _Comparison(
            table=table,
            state=state,
            facts=facts,
            merges=target_read.merges,
            source=ComparedTable(
                database=source,
                cursor=source_read.cursor,
                table=table.source_name,
                leaves=source_read.leaves,
                row_format=RowFormat(
                    columns=columns.source,
                    key=source_key,
                    rows=where_condition(selection.where),
                    encodings_differ=encodings_differ,
                    has_number=has_number,
                    path=search_path(source_read.cursor, table.source_name) if selection.where else (),
                ),
                action=reading_source,
                workers=workers,
                deadline=deadline,
            ),
            target=ComparedTable(
                database=target,
                cursor=target_read.cursor,
                table=table.target_name,
                leaves=target_read.leaves,
                row_format=RowFormat(
                    columns=columns.target,
                    key=target_key,
                    rows=not_deleted(selection),
                    encodings_differ=encodings_differ,
                    has_number=has_number,
                ),
                action=reading_target,
                workers=workers,
                deadline=deadline,
            ),
            watermark_lost=watermark_lost(table, facts, state),
            left_out=columns.left_out,
        )
        found = comparison.run(sample, on_progress, began)
    remember_verification(
        target,
        table,
        missing=found.missing,
        extra=found.extra,
        different=found.different,
        pending=found.pending,
        sample=sample,
    )
    return found


@dataclass(frozen=True)
class _Comparison:
    """Both sides of a table, and what the last sync left."""

    table: TableConfig
    state: State
    facts: SourceFacts
    merges: MergeXids
    source: ComparedTable
    target: ComparedTable
    watermark_lost: str | None
    left_out: tuple[str, ...]

    def run(self, sample: float | None, on_progress: ProgressCallback, began: float) -> TableVerification:
        """Compare the buckets, then the rows of those that differ, and say what the differences are."""
        counter = _ProgressCounter(self.table.label, round(self.state.rows * (sample or 1)), on_progress)
        buckets = Buckets.for_rows(self.state.rows, sample)
        source_totals, target_totals = count_both(self.source, self.target, buckets, counter.on_rows_read)
        next_xid = None if self.watermark_lost else xid.read_next_xid(self.source.cursor, self.facts.horizon)
        classifier = DifferenceClassifier(self._rules(next_xid))
        if rest := differing(source_totals, target_totals, buckets):
            if target_totals.all_rows <= FEW_ROWS:
                rest = buckets
            counter.begin_again(f"comparing the rows of {rest.looked_at} parts row by row")
            compare(
                self.source, self.target, rest, classifier, ids=self._ids(next_xid), on_rows_read=counter.on_rows_read
            )
        oids = (self.facts.identity.relation_oid, self.state.target_oid)
        for side, oid in zip((self.source, self.target), oids, strict=True):
            if catalog.renamed(side.cursor, {oid: side.table}):
                raise PlanOutdated(f"{side.table} got another name while it was read. Run it again.")
        present = target_totals.all_rows if buckets.chosen is None else None
        classification = classifier.classify(self.state.rows, present)
        counter.end(max(source_totals.all_rows, target_totals.all_rows))
        tallies = classification.tallies
        return TableVerification(
            table=self.table.label,
            status=_status(classification),
            missing=tallies["missing"].count,
            extra=tallies["extra"].count,
            different=tallies["different"].count,
            pending=tallies["pending"].count,
            rows_source=source_totals.all_rows,
            rows_target=target_totals.all_rows,
            examples=self._examples(classification),
            note="; ".join(self._notes(buckets, classification)) or None,
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

    def _rules(self, next_xid: int | None) -> Rules:
        return Rules(
            watermark=None if self.watermark_lost else self.state.watermark,
            next_compares_values=self.table.mode is not Mode.XMIN_INCREMENTAL
            or same_id_other_values(
                self.state,
                new_leaves=bool(self._fresh),
                unproven=unproven(self.facts, self.state) is not None,
            ),
            merges=self.merges,
            keeps_deleted=self.state.selection.deletes.keeps,
            # Whatever deletes rows takes a transaction id, but for a crash that empties what is UNLOGGED.
            none_deleted=next_xid == self.state.watermark
            and not self.state.deletes_left
            and not any(leaf.unlogged for leaf in self.source.leaves),
        )

    def _ids(self, next_xid: int | None) -> tuple[sql.Composable, sql.Composable]:
        target_next_xid = xid.read_next_xid(self.target.cursor, horizon(self.target.cursor))
        return (
            source_ids(next_xid, self._known, self._fresh, self._sought()),
            target_ids(target_next_xid, self.state.selection.xmin_column),
        )

    def _sought(self) -> sql.Composable | None:
        """Build the condition that a new row is read by the next sync, where changes are found by a cursor."""
        state, selection = self.state, self.facts.selection
        if selection.cursor is None or selection.cursor != state.selection.cursor:
            return None
        plan = Plan(Mode.INCREMENTAL_SYNC, "", cursor_from=state.cursor)
        # The catalog is asked under an empty search_path.
        with without_search_path(self.source.cursor, self.source.row_format.path):
            return cursor_column.condition(self.source.cursor, self.table, plan, selection)

    def _notes(self, buckets: Buckets, classification: Classification) -> Iterator[str]:
        if self.watermark_lost:
            yield f"every difference counts, none as pending: {self.watermark_lost}"
        elif (doubt := unproven(self.facts, self.state)) and _status(classification) == "mismatch":
            doubt = f"{RESTARTED} since the last sync" if doubt.startswith(RESTARTED) else doubt
            yield f"{doubt}: what that saw may have been undone, and the next compares all rows"
        if self.left_out:
            yield f"not compared: {', '.join(self.left_out)}"
        if buckets.chosen is not None:
            yield f"a sample: {buckets.looked_at} of {buckets.number} parts of the table"
        if classification.is_vague:
            yield "the number of extra rows is known from the counts, but not which ones they are"

    def _examples(self, classification: Classification) -> dict[DifferenceKind, list[dict[str, str]]]:
        def readable(text: str) -> str:
            return bytes.fromhex(text).decode() if self.target.row_format.encodings_differ else text

        names = [column.name for column in self.target.row_format.key] or ["row"]
        return {
            kind: [dict(zip(names, map(readable, key), strict=True)) for key in tally.keys]
            for kind, tally in classification.tallies.items()
        }


class _ProgressCounter:
    """Counts the rows that were read, and reports how far a comparison is: a row of both sides is one."""

    def __init__(self, table: str, total: int, on_progress: ProgressCallback) -> None:
        self._table = table
        self._total = total
        self._on_progress = on_progress
        self._read = 0
        self._note = ""
        self._guard = threading.Lock()

    def on_rows_read(self, rows: int) -> None:
        """Count rows that were read, on either side."""
        with self._guard:
            self._read += rows
            done = self._read // 2
            # As many as there were after the last sync: an estimate, and not the end.
            total = 0 if self._note else max(self._total, done + 1)
            self._on_progress(Progress(self._table, "verify", done, total, self._note))

    def begin_again(self, note: str) -> None:
        """Count rows that are read once more, and say what for."""
        self._read, self._note = 0, note
        self._on_progress(Progress(self._table, "verify", 0, 0, note))

    def end(self, rows: int) -> None:
        """Report that all is read."""
        self._on_progress(Progress(self._table, "verify", rows, rows))


def _status(classification: Classification) -> Literal["match", "mismatch"]:
    faults: tuple[DifferenceKind, ...] = ("missing", "extra", "different")
    return "mismatch" if any(classification.tallies[kind].count for kind in faults) else "match"
