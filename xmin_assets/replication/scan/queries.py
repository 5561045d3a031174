"""The SQL that reads one range of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from psycopg2 import sql

from xmin_assets.postgres import xid
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.scan.checksum import row_hash
from xmin_assets.replication.scan.conditions import all_of, block_of_row, read_from, where_condition, within
from xmin_assets.replication.scan.ranges import WHOLE, CtidRange
from xmin_assets.replication.scan.session_flags import SessionFlags


class CommonXid(NamedTuple):
    """The xid of some row of a range, which most of its rows may have."""

    xid: str
    """As PostgreSQL writes it, 32 bits."""
    xid64: int


class RangeCount(NamedTuple):
    """What the count query returns."""

    rows: int
    has_changed: bool
    """Whether some rows are to be copied."""
    checksum: Decimal


class Query:
    """The statements that read a range.

    Args:
        table: the source table.
        plan: what is to be read.
        selection: as the source has it.
        next_xid: the xid64 from which ages count in the transaction; None where rows have no xmin.
        since: the condition that a row may have changed, where xmin does not say so.
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
        self._encodings_differ = encodings_differ

    def copies_all(self, ctid_range: CtidRange) -> bool:
        """Return whether all rows of the range are to be copied, changed or not."""
        return self._changed(ctid_range) is None

    def count(self, ctid_range: CtidRange) -> sql.Composable:
        """Build the count query; its row is a `RangeCount`.

        Every idle sync evaluates it for every row of the table. An expression of ``xmin`` in the WHERE clause costs as
        much as the rest of the scan, in an aggregate more (docs/performance.md). So those rows are counted that are
        unchanged, or that fulfil a condition which is true and flags the range.
        """
        changed = self._changed(ctid_range)
        has_changed: sql.Composable = sql.SQL("true")
        unless = None
        if changed is not None:
            has_changed = SessionFlags.is_flagged(ctid_range)
            unless = sql.SQL("(NOT {changed} OR {flag})").format(
                changed=changed, flag=SessionFlags.raise_flag(ctid_range)
            )
        return sql.SQL("""
            SELECT count(*) AS rows, {has_changed} AS has_changed, {checksum} AS checksum
              FROM {relation}
             WHERE {rows}
        """).format(
            has_changed=has_changed,
            checksum=self._checksum(ctid_range),
            relation=read_from(ctid_range, self._table),
            rows=all_of(within(ctid_range), *self._where(), unless),
        )

    def common_xid(self, ctid_range: CtidRange) -> sql.Composable:
        """Build the query of the xid of some row of the range: a `CommonXid`, or no row if the range has none."""
        return sql.SQL("SELECT xmin::text AS xid, {xid64} AS xid64 FROM {relation} WHERE {rows} LIMIT 1").format(
            xid64=self._xid64(), relation=read_from(ctid_range, self._table), rows=all_of(within(ctid_range))
        )

    def max_xid(self, ctid_range: CtidRange) -> sql.Composable:
        """Build the query of the highest xid64 of the rows to be copied; 0 for none."""
        return sql.SQL("SELECT coalesce(max({xid64}), 0) AS max_xid FROM {relation} WHERE {rows}").format(
            xid64=self._xid64(),
            relation=read_from(ctid_range, self._table),
            rows=all_of(within(ctid_range), self._changed(ctid_range), *self._where()),
        )

    def condition(self) -> sql.Composable:
        """Build the condition on the rows to be copied, of the table as a whole."""
        return all_of(self._changed(WHOLE), *self._where())

    def rows(self, ctid_range: CtidRange, common_xid: CommonXid | None = None) -> sql.Composable:
        """Build the query of the rows to be copied, with the columns of `Selection.staged_columns`.

        Args:
            ctid_range: the range.
            common_xid: of the range, where all its rows are copied: the first row with another xid flags the range.
                Without it the highest xid64 of the rows is remembered.
        """
        columns: list[sql.Composable] = [sql.Identifier(column.name) for column in self._selection.columns]
        xid64 = self._xid64()
        if common_xid:
            xid64 = sql.SQL("CASE WHEN xmin = {xid}::xid THEN {common}::int8 WHEN {flag} THEN {xid64} END").format(
                xid=sql.Literal(common_xid.xid),
                common=sql.Literal(common_xid.xid64),
                flag=SessionFlags.raise_flag(ctid_range),
                xid64=xid64,
            )
        elif self.next_xid is not None and not self.copies_all(ctid_range):
            xid64 = SessionFlags.remember_max(xid64)
        columns.append(xid64)
        if self._selection.block_column:
            columns.append(block_of_row(ctid_range))
        return sql.SQL("SELECT {columns} FROM {relation} WHERE {rows}").format(
            columns=sql.SQL(", ").join(columns),
            relation=read_from(ctid_range, self._table),
            rows=all_of(within(ctid_range), self._changed(ctid_range), *self._where()),
        )

    def rows_in(self, ranges: Sequence[CtidRange]) -> sql.Composable:
        """Build the query of the rows to be copied in several ranges of one leaf."""
        return _of_each(ranges, self.rows)

    def keys_in(self, ranges: Sequence[CtidRange]) -> sql.Composable:
        """Build the query of the keys of all rows in several ranges of one leaf."""
        return _of_each(ranges, self.keys)

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
            rows=all_of(within(ctid_range), condition, *self._where()),
        )

    def _checksum(self, ctid_range: CtidRange) -> sql.Composable:
        if not self._plan.checksum:
            return sql.SQL("0")
        # Of a copy of another history, equal rows may be in other blocks than those by which deleted ones are found.
        block = block_of_row(ctid_range) if self._selection.block_column else None
        hashed = row_hash(self._selection.columns, encodings_differ=self._encodings_differ, block=block)
        return sql.SQL("coalesce(sum({row_hash}), 0)").format(row_hash=hashed)

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
        return sql.SQL("({changed} OR tableoid = ANY({leaves}::oid[]))").format(changed=changed, leaves=leaves)

    def _where(self) -> tuple[sql.Composable | None, ...]:
        return self._below(), where_condition(self._selection.where)

    def _below(self) -> sql.Composable | None:
        """Build the condition that a version is of those that a load by chunks reads."""
        chunk = self._plan.chunk
        if chunk is None or self.next_xid is None or self.next_xid <= chunk.below:
            return None  # in the last case no version is of a later transaction
        return sql.SQL("NOT ({})").format(xid.at_or_above(chunk.below, self.next_xid))


def _of_each(ranges: Sequence[CtidRange], query: Callable[[CtidRange], sql.Composable]) -> sql.Composable:
    """Build a query that returns the rows of a query for each range.

    There is no scan of several TID ranges, but one is done again for other ends. OFFSET keeps the query one of its own,
    in which these are parameters.
    """
    alias = "xmin_assets changed blocks"  # which no table is called
    low, high = sql.Identifier(alias, "low"), sql.Identifier(alias, "high")
    return sql.SQL("""
        SELECT found.*
          FROM unnest({starts}::tid[], {ends}::tid[]) AS {alias} (low, high),
               LATERAL ({query} OFFSET 0) AS found
    """).format(
        starts=sql.Literal([f"({ctid_range.start},0)" for ctid_range in ranges]),
        ends=sql.Literal([f"({ctid_range.end},0)" for ctid_range in ranges]),
        alias=sql.Identifier(alias),
        query=query(replace(ranges[0], ends=(low, high))),
    )
