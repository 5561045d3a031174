"""Where to read: a table cut into ranges of blocks, and the SQL that reads one range.

A range names blocks of one leaf relation by ctid; a TID range scan (PostgreSQL 14) reads only those. The ranges of a
leaf cover every block there can be: the last one has no upper end, because a size is only a moment's fact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from psycopg2 import sql

from xmin_assets.postgres import xid
from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.checksum import row_hash
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.table import Selection

BLOCK_SIZE = 8192
"""Bytes of a block of every common build; a build with other blocks only gets other range sizes."""

MIN_BYTES = 1 << 20
"""The least that is worth a statement of its own: its fixed cost is about that of counting 1 MiB."""

BATCH_BYTES = 4 << 20
"""Smaller batches are joined: copying a table by 4 MiB takes 5 % less CPU than by 1 MiB; larger ones gain little."""

SPAN_BYTES = 64 << 20
"""The most that is counted, or copied, by one statement."""

ROW_BYTES = 128
"""What a row is taken to need as long as nothing is known of a table's rows."""

SPANS_PER_WORKER = 16
"""Ranges that a large table gives each worker at least, so that none is idle for long while another does the last."""


@dataclass(frozen=True)
class Range:
    """Blocks `start` to `end` (not included; None is no end) of one leaf relation, or all rows of the table."""

    leaf: Storage | None
    """None: the table is read under its own name, as a whole."""
    start: int
    end: int | None
    blocks: int
    """Blocks that were there when the range was cut."""
    ends: tuple[sql.Composable, sql.Composable] | None = None
    """What stands for both ends in a statement that is about many ranges."""


@dataclass(frozen=True)
class Count:
    """What a range holds."""

    span: Range
    rows: int
    changed: int | None
    """Rows to be copied; None: some, and how many shows when they are."""
    checksum: int = 0


_MARK = "xmin_assets.mark"
"""A parameter of the session, set until the end of the transaction, to the range of which some rows are unlike most."""

_NOTE = "xmin_assets.highest"
"""Another one, set to the highest xid64 of the changed rows that the transaction has read."""

WHOLE = Range(None, 0, None, 1)
"""A table that is read in one piece."""


def spans(storage: tuple[Storage, ...], workers: int) -> list[Range]:
    """Cut a table into ranges to be counted: large ones, but enough of them to keep the workers busy.

    A view has nothing to be cut, and a role that may read a table, but not its partitions under their own names, reads
    it as a whole; and so are partitions whose rows would be others under their own names.
    """
    if not storage or not all(leaf.readable and leaf.alike for leaf in storage):
        return [WHOLE]
    ranges: list[Range] = []
    for leaf in storage:
        blocks = leaf.main_bytes // BLOCK_SIZE
        least = max(1, MIN_BYTES // BLOCK_SIZE)
        most = SPAN_BYTES // BLOCK_SIZE
        size = min(most, max(least, math.ceil(blocks / (SPANS_PER_WORKER * workers))))
        ranges += _cut(leaf, 0, None, blocks, max(1, math.ceil(blocks / size)))
    return ranges


def batches(span: Range, rows: int | None, batch_size: int) -> list[Range]:
    """Cut a range into batches of about `batch_size` rows each, and of 4 MiB at least.

    Args:
        span: what to cut.
        rows: how many of its rows are to be copied. If that is not known, it is cut only where it has much TOAST.
        batch_size: rows.
    """
    if span.leaf is None:
        return [span]
    # All bytes and not only the heap's: a few blocks may point to gigabytes of TOAST.
    bytes_per_block = max(BLOCK_SIZE, span.leaf.all_bytes // max(1, span.leaf.main_bytes // BLOCK_SIZE))
    size = span.blocks * bytes_per_block
    pieces = 1 if rows is None else min(math.ceil(rows / batch_size), max(1, size // BATCH_BYTES))
    return _cut(span.leaf, span.start, span.end, span.blocks, max(pieces, size // SPAN_BYTES))


def rows_estimate(span: Range) -> int:
    """About how many rows a range of blocks has, by the statistics of its table, or by its size if there are none."""
    if span.leaf is None:
        return 0
    if span.leaf.rows_estimate:
        return span.leaf.rows_estimate * span.blocks // max(1, span.leaf.main_bytes // BLOCK_SIZE)
    return span.blocks * BLOCK_SIZE // ROW_BYTES


def _cut(leaf: Storage, start: int, end: int | None, blocks: int, pieces: int) -> list[Range]:
    pieces = max(1, min(pieces, blocks))
    edges = [start + blocks * piece // pieces for piece in range(pieces + 1)]
    ends = [*edges[1:-1], end]
    sizes = [after - before for before, after in pairwise(edges)]
    return [Range(leaf, *cut) for cut in zip(edges[:-1], ends, sizes, strict=True)]


class Query:
    """The statements that read a range.

    Args:
        table: the source table.
        plan: what is to be read.
        selection: as the source has it.
        now: the xid64 from which ages count in the transaction; None where rows have no xmin.
        since: the condition that a row may have changed, where that is not told by xmin.
        portable: see `checksum.row_hash`.
    """

    def __init__(
        self,
        table: QualifiedName,
        plan: Plan,
        selection: Selection,
        now: int | None,
        since: sql.Composable | None = None,
        *,
        portable: bool = False,
    ) -> None:
        self._table = table
        self._plan = plan
        self._selection = selection
        self.now = now
        self._since = since
        self._portable = portable

    def copies_all(self, span: Range) -> bool:
        """Whether all rows of the range are to be copied, changed or not."""
        return self._changed(span) is None

    def count(self, span: Range) -> sql.Composable:
        """What `counted` understands.

        Every idle sync evaluates it for every row of the table. An expression of ``xmin`` in the WHERE clause costs as
        much as the rest of the scan, in an aggregate more (docs/performance.md). So the rows are counted that are
        unchanged, or else fulfil a condition which is true and leaves a mark.
        """
        changed = self._changed(span)
        found: sql.Composable = sql.SQL("true")
        unless = None
        if changed is not None:
            found = self.marked(span)
            unless = sql.SQL("(NOT {} OR {})").format(changed, _leave_mark(span))
        return sql.SQL("SELECT count(*), {found}, {checksum} FROM {relation} WHERE {rows}").format(
            found=found,
            checksum=self._checksum(span),
            relation=read_from(span, self._table),
            rows=all_of(within(span), self._where(), unless),
        )

    def counted(self, span: Range, row: tuple[Any, ...]) -> Count:
        """What the row that `count` gives says of the range."""
        rows, some, checksum = row
        return Count(span, rows, None if some else 0, int(checksum))

    def usual(self, span: Range) -> sql.Composable:
        """The xid of some row of the range, as PostgreSQL and as we write it; no row, if there is none."""
        return sql.SQL("SELECT xmin::text, {} FROM {} WHERE {} LIMIT 1").format(
            self._xid64(), read_from(span, self._table), all_of(within(span))
        )

    def marked(self, span: Range) -> sql.Composable:
        """Whether the last statement about the range has left a mark: see `count` and `rows`."""
        return sql.SQL("pg_catalog.current_setting({}, true) IS NOT DISTINCT FROM {}").format(
            sql.Literal(_MARK), sql.Literal(_mark(span))
        )

    def highest(self, span: Range) -> sql.Composable:
        """The highest xid64 of the rows to be copied."""
        return sql.SQL("SELECT coalesce(max({}), 0) FROM {} WHERE {}").format(
            self._xid64(), read_from(span, self._table), all_of(within(span), self._changed(span), self._where())
        )

    def condition(self) -> sql.Composable:
        """The condition on the rows to be copied, of the table as a whole."""
        return all_of(self._changed(WHOLE), self._where())

    def rows(self, span: Range, usual: tuple[str, int] | None = None) -> sql.Composable:
        """The rows to be copied, as `Selection.staged_columns` has them.

        Args:
            span: the range.
            usual: what `Query.usual` gave, where all rows are copied: the first row with another xid leaves a mark.
                Elsewhere the highest xid64 is noted.
        """
        columns: list[sql.Composable] = [sql.Identifier(column.name) for column in self._selection.columns]
        xid64 = self._xid64()
        if usual:
            xid64 = sql.SQL("CASE WHEN xmin = {}::xid THEN {}::int8 WHEN {} THEN {} END").format(
                *map(sql.Literal, usual), _leave_mark(span), xid64
            )
        elif self.now is not None and not self.copies_all(span):
            xid64 = sql.SQL(
                "CASE WHEN {0} > {1} THEN pg_catalog.set_config({2}, ({0})::text, true)::int8 ELSE {0} END"
            ).format(xid64, self.noted(), sql.Literal(_NOTE))
        columns.append(xid64)
        if self._selection.block_column:
            columns.append(_block(span))
        return sql.SQL("SELECT {columns} FROM {relation} WHERE {rows}").format(
            columns=sql.SQL(", ").join(columns),
            relation=read_from(span, self._table),
            rows=all_of(within(span), self._changed(span), self._where()),
        )

    @staticmethod
    def noted() -> sql.Composable:
        """The highest xid64 that `rows` and `rows_of` have noted in the cursor's transaction; 0 for none."""
        # After a transaction that has set it, such a parameter is empty.
        note = sql.SQL("coalesce(nullif(pg_catalog.current_setting({}, true), ''), '0')::int8")
        return note.format(sql.Literal(_NOTE))

    def rows_of(self, spans: Sequence[Range]) -> sql.Composable:
        """As `rows`, of several ranges of one leaf."""
        return _of_each(spans, self.rows)

    def keys_of(self, spans: Sequence[Range]) -> sql.Composable:
        """As `keys`, of several ranges of one leaf."""
        return _of_each(spans, self.keys)

    def changed_keys(self, span: Range) -> sql.Composable:
        """The keys of the rows to be copied."""
        return self._keys(span, self._changed(span))

    def keys(self, span: Range) -> sql.Composable:
        """The keys of all rows."""
        return self._keys(span, None)

    def _keys(self, span: Range, condition: sql.Composable | None) -> sql.Composable:
        return sql.SQL("SELECT {key} FROM {relation} WHERE {rows}").format(
            key=sql.SQL(", ").join(map(sql.Identifier, self._selection.key)),
            relation=read_from(span, self._table),
            rows=all_of(within(span), condition, self._where()),
        )

    def _checksum(self, span: Range) -> sql.Composable:
        if not self._plan.checksum:
            return sql.SQL("0")
        # Of a copy of another history, equal rows may be in other blocks than those by which deleted ones are found.
        place = _block(span) if self._selection.block_column else None
        hashed = row_hash(self._selection.columns, portable=self._portable, place=place)
        return sql.SQL("coalesce(sum({}), 0)").format(hashed)

    def _xid64(self) -> sql.Composable:
        return sql.SQL("NULL::int8") if self.now is None else xid.row_xid64(self.now)

    def _changed(self, span: Range) -> sql.Composable | None:
        if self._since is not None:
            return self._since
        if self._plan.watermark is None or self.now is None:
            return None
        changed = xid.at_or_above(self._plan.watermark, self.now)
        if not self._plan.full_leaves:
            return changed
        if span.leaf is not None:
            return None if span.leaf.oid in self._plan.full_leaves else changed
        leaves = sql.Literal([*self._plan.full_leaves])
        return sql.SQL("({} OR tableoid = ANY({}::oid[]))").format(changed, leaves)

    def _where(self) -> sql.Composable | None:
        return fulfils(self._selection.where)


def block_key(filenode: int, block: int) -> int:
    """What a target keeps of a row's place: the file and the block, in the bits of an int8."""
    bits = filenode << 32 | block
    return bits - (1 << 64) if bits >= 1 << 63 else bits


def _block(span: Range) -> sql.Composable:
    """The `block_key` of a row. PostgreSQL up to 18 tells a ctid's block only as text."""
    file = sql.Literal(span.leaf.relfilenode) if span.leaf else sql.SQL("pg_catalog.pg_relation_filenode(tableoid)")
    return sql.SQL("(({}::int8 << 32) | (ctid::text::point)[0]::int8)").format(file)


def _of_each(spans: Sequence[Range], query: Callable[[Range], sql.Composable]) -> sql.Composable:
    """A query's rows of each range.

    There is no scan of several TID ranges, but one is done again for other ends. OFFSET keeps the query one of its own,
    in which these are parameters.
    """
    alias = "xmin_assets changed blocks"  # which no table is called
    ranges = sql.SQL("unnest({}::tid[], {}::tid[]) AS {} (low, high)").format(
        sql.Literal([f"({span.start},0)" for span in spans]),
        sql.Literal([f"({span.end},0)" for span in spans]),
        sql.Identifier(alias),
    )
    low, high = sql.Identifier(alias, "low"), sql.Identifier(alias, "high")
    each = query(replace(spans[0], ends=(low, high)))
    return sql.SQL("SELECT found.* FROM {}, LATERAL ({} OFFSET 0) AS found").format(ranges, each)


def _leave_mark(span: Range) -> sql.Composable:
    """A condition that is true, and evaluated once at most.

    A subquery that depends on no row waits for the first one that needs it (README of PostgreSQL's executor,
    "initplans").
    """
    return sql.SQL("(SELECT pg_catalog.set_config({}, {}, true)) IS NOT NULL").format(
        sql.Literal(_MARK), sql.Literal(_mark(span))
    )


def _mark(span: Range) -> str:
    return f"{span.leaf.oid} {span.start}" if span.leaf else "whole"


def read_lock(table: QualifiedName, kind: str) -> sql.Composed:
    """The statement that keeps a table from being emptied or rewritten while it is read.

    Args:
        table: a table or view.
        kind: its pg_class.relkind.
    """
    if kind == "m":
        # LOCK TABLE takes no materialized view; reading nothing of it holds the same lock until the transaction ends.
        # REFRESH writes frozen rows, which every snapshot sees (refresh_matview_datafill() in matview.c).
        return sql.SQL("SELECT FROM {} LIMIT 0").format(table.sql)
    return sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table.sql)


def read_from(span: Range, table: QualifiedName) -> sql.Composable:
    """What a range is read from: its leaf alone, or the table under its own name."""
    return table.sql if span.leaf is None else sql.SQL("ONLY {}").format(span.leaf.name.sql)


def within(span: Range) -> sql.Composable | None:
    """The condition that a row is in the range; None if all are."""
    if span.leaf is None:
        return None
    if span.ends:
        return sql.SQL("ctid >= {} AND ctid < {}").format(*span.ends)
    return between(span.start, span.end)


def between(start: int, end: int | None) -> sql.Composable:
    """The condition that a row is in the block `start` or a later one, and before the block `end` if there is one."""
    low = sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({start},0)"))
    if end is None:
        return low
    return sql.SQL("{} AND ctid < {}::tid").format(low, sql.Literal(f"({end},0)"))


def fulfils(where: str | None) -> sql.Composable | None:
    """A configured ``where`` as a condition; None for none."""
    # The line break keeps a comment at the end of the clause from swallowing the bracket.
    return sql.SQL("({}\n)").format(sql.SQL(where)) if where else None


def all_of(*conditions: sql.Composable | None) -> sql.Composable:
    """The conditions joined by AND, those that are None left out; true if all are."""
    present = [condition for condition in conditions if condition is not None]
    return sql.SQL(" AND ").join(present) if present else sql.SQL("true")
