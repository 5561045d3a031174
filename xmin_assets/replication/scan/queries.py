"""The SQL that reads one range of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from psycopg2 import sql

from xmin_assets.postgres import xid
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.scan.checksum import row_hash
from xmin_assets.replication.scan.conditions import (
    _block,
    all_of,
    read_from,
    where_condition,
    within,
)
from xmin_assets.replication.scan.ranges import (
    WHOLE,
    Count,
    CtidRange,
)

_MARK = "xmin_assets.mark"
"""A parameter of the session, set until the end of the transaction, to the range of which some rows are unlike most."""


_NOTE = "xmin_assets.highest"
"""Another one, set to the highest xid64 of the changed rows that the transaction has read."""


class Query:
    """The statements that read a range.

    Args:
        table: the source table.
        plan: what is to be read.
        selection: as the source has it.
        next_xid: the xid64 from which ages count in the transaction; None where rows have no xmin.
        since: the condition that a row may have changed, where that is not told by xmin.
        encodings_differ: see `checksum.row_hash`.
    """

    def __init__(
        self,
        table: QualifiedName,
        plan: Plan,
        selection: Selection,
        next_xid: int | None,
        since: sql.Composable | None = None,
        *,
        encodings_differ: bool = False,
    ) -> None:
        self._table = table
        self._plan = plan
        self._selection = selection
        self.next_xid = next_xid
        self._since = since
        self._portable = encodings_differ

    def copies_all(self, ctid_range: CtidRange) -> bool:
        """Return whether all rows of the range are to be copied, changed or not."""
        return self._changed(ctid_range) is None

    def count(self, ctid_range: CtidRange) -> sql.Composable:
        """Build the count query; parse its row with `counted`.

        Every idle sync evaluates it for every row of the table. An expression of ``xmin`` in the WHERE clause costs as
        much as the rest of the scan, in an aggregate more (docs/performance.md). So the rows are counted that are
        unchanged, or else fulfil a condition which is true and leaves a mark.
        """
        changed = self._changed(ctid_range)
        found: sql.Composable = sql.SQL("true")
        unless = None
        if changed is not None:
            found = self.marked(ctid_range)
            unless = sql.SQL("(NOT {} OR {})").format(changed, _leave_mark(ctid_range))
        return sql.SQL("SELECT count(*), {found}, {checksum} FROM {relation} WHERE {rows}").format(
            found=found,
            checksum=self._checksum(ctid_range),
            relation=read_from(ctid_range, self._table),
            rows=all_of(within(ctid_range), self._where(), unless),
        )

    def counted(self, ctid_range: CtidRange, row: tuple[Any, ...]) -> Count:
        """Parse the row that the `count` query returns."""
        rows, some, checksum = row
        return Count(ctid_range, rows, None if some else 0, int(checksum))

    def common_xid(self, ctid_range: CtidRange) -> sql.Composable:
        """Build the query of the xid of some row of the range, as xid and as xid64; no row if the range has none."""
        return sql.SQL("SELECT xmin::text, {} FROM {} WHERE {} LIMIT 1").format(
            self._xid64(), read_from(ctid_range, self._table), all_of(within(ctid_range))
        )

    def marked(self, ctid_range: CtidRange) -> sql.Composable:
        """Build the expression that tells whether the last statement about the range has set the session flag."""
        return sql.SQL("pg_catalog.current_setting({}, true) IS NOT DISTINCT FROM {}").format(
            sql.Literal(_MARK), sql.Literal(_mark(ctid_range))
        )

    def highest(self, ctid_range: CtidRange) -> sql.Composable:
        """Build the query of the highest xid64 of the rows to be copied."""
        return sql.SQL("SELECT coalesce(max({}), 0) FROM {} WHERE {}").format(
            self._xid64(),
            read_from(ctid_range, self._table),
            all_of(within(ctid_range), self._changed(ctid_range), self._where()),
        )

    def condition(self) -> sql.Composable:
        """Build the condition on the rows to be copied, of the table as a whole."""
        return all_of(self._changed(WHOLE), self._where())

    def rows(self, ctid_range: CtidRange, common_xid: tuple[str, int] | None = None) -> sql.Composable:
        """Build the query of the rows to be copied, with the columns of `Selection.staged_columns`.

        Args:
            ctid_range: the range.
            common_xid: what `Query.common_xid` gave, where all rows are copied: the first row with another xid leaves a
                mark.
                Elsewhere the highest xid64 is noted.
        """
        columns: list[sql.Composable] = [sql.Identifier(column.name) for column in self._selection.columns]
        xid64 = self._xid64()
        if common_xid:
            xid64 = sql.SQL("CASE WHEN xmin = {}::xid THEN {}::int8 WHEN {} THEN {} END").format(
                *map(sql.Literal, common_xid), _leave_mark(ctid_range), xid64
            )
        elif self.next_xid is not None and not self.copies_all(ctid_range):
            xid64 = sql.SQL(
                "CASE WHEN {0} > {1} THEN pg_catalog.set_config({2}, ({0})::text, true)::int8 ELSE {0} END"
            ).format(xid64, self.noted(), sql.Literal(_NOTE))
        columns.append(xid64)
        if self._selection.block_column:
            columns.append(_block(ctid_range))
        return sql.SQL("SELECT {columns} FROM {relation} WHERE {rows}").format(
            columns=sql.SQL(", ").join(columns),
            relation=read_from(ctid_range, self._table),
            rows=all_of(within(ctid_range), self._changed(ctid_range), self._where()),
        )

    @staticmethod
    def noted() -> sql.Composable:
        """Build the highest xid64 that `rows` and `rows_in` have noted in the cursor's transaction; 0 for none."""
        # After a transaction that has set it, such a parameter is empty.
        note = sql.SQL("coalesce(nullif(pg_catalog.current_setting({}, true), ''), '0')::int8")
        return note.format(sql.Literal(_NOTE))

    def rows_in(self, cut_into_ranges: Sequence[CtidRange]) -> sql.Composable:
        """Build the query of the rows to be copied in several ranges of one leaf."""
        return _of_each(cut_into_ranges, self.rows)

    def keys_in(self, cut_into_ranges: Sequence[CtidRange]) -> sql.Composable:
        """Build the query of the keys of all rows in several ranges of one leaf."""
        return _of_each(cut_into_ranges, self.keys)

    def changed_keys(self, ctid_range: CtidRange) -> sql.Composable:
        """Build the query of the keys of the rows to be copied."""
        return self._keys(ctid_range, self._changed(ctid_range))

    def keys(self, ctid_range: CtidRange) -> sql.Composable:
        """Build the query of the keys of all rows."""
        return self._keys(ctid_range, None)

    def _keys(self, ctid_range: CtidRange, condition: sql.Composable | None) -> sql.Composable:
        return sql.SQL("SELECT {key} FROM {relation} WHERE {rows}").format(
            key=sql.SQL(", ").join(map(sql.Identifier, self._selection.key)),
            relation=read_from(ctid_range, self._table),
            rows=all_of(within(ctid_range), condition, self._where()),
        )

    def _checksum(self, ctid_range: CtidRange) -> sql.Composable:
        if not self._plan.checksum:
            return sql.SQL("0")
        # Of a copy of another history, equal rows may be in other blocks than those by which deleted ones are found.
        place = _block(ctid_range) if self._selection.block_column else None
        hashed = row_hash(self._selection.columns, encodings_differ=self._portable, place=place)
        return sql.SQL("coalesce(sum({}), 0)").format(hashed)

    def _xid64(self) -> sql.Composable:
        return sql.SQL("NULL::int8") if self.next_xid is None else xid.row_xid64(self.next_xid)

    def _changed(self, ctid_range: CtidRange) -> sql.Composable | None:
        if self._since is not None:
            return self._since
        if self._plan.watermark is None or self.next_xid is None:
            return None
        changed = xid.at_or_above(self._plan.watermark, self.next_xid)
        if not self._plan.full_leaves:
            return changed
        if ctid_range.leaf is not None:
            return None if ctid_range.leaf.oid in self._plan.full_leaves else changed
        leaves = sql.Literal([*self._plan.full_leaves])
        return sql.SQL("({} OR tableoid = ANY({}::oid[]))").format(changed, leaves)

    def _where(self) -> sql.Composable | None:
        return where_condition(self._selection.where)


def _of_each(cut_into_ranges: Sequence[CtidRange], query: Callable[[CtidRange], sql.Composable]) -> sql.Composable:
    """Build a query that returns the rows of a query for each range.

    There is no scan of several TID ranges, but one is done again for other ends. OFFSET keeps the query one of its own,
    in which these are parameters.
    """
    alias = "xmin_assets changed blocks"  # which no table is called
    ranges = sql.SQL("unnest({}::tid[], {}::tid[]) AS {} (low, high)").format(
        sql.Literal([f"({ctid_range.start},0)" for ctid_range in cut_into_ranges]),
        sql.Literal([f"({ctid_range.end},0)" for ctid_range in cut_into_ranges]),
        sql.Identifier(alias),
    )
    low, high = sql.Identifier(alias, "low"), sql.Identifier(alias, "high")
    each = query(replace(cut_into_ranges[0], ends=(low, high)))
    return sql.SQL("SELECT found.* FROM {}, LATERAL ({} OFFSET 0) AS found").format(ranges, each)


def _leave_mark(ctid_range: CtidRange) -> sql.Composable:
    """Build a condition that is true, is evaluated once at most, and sets the session flag.

    A subquery that depends on no row waits for the first one that needs it (README of PostgreSQL's executor,
    "initplans").
    """
    return sql.SQL("(SELECT pg_catalog.set_config({}, {}, true)) IS NOT NULL").format(
        sql.Literal(_MARK), sql.Literal(_mark(ctid_range))
    )


def _mark(ctid_range: CtidRange) -> str:
    return f"{ctid_range.leaf.oid} {ctid_range.start}" if ctid_range.leaf else "whole"
