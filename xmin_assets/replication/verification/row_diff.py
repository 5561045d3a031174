"""The second pass of a comparison: the rows of the buckets that differ, side by side in the order of their keys.

Each side sends keys, hashes and transaction ids, sorted by the text of the key. Both streams are walked at once, so
memory does not grow with what is found; `classification.DifferenceClassifier` says what a difference means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from psycopg2 import sql

from xmin_assets.errors import PlanOutdated
from xmin_assets.postgres import xid
from xmin_assets.postgres.transaction import translate_errors
from xmin_assets.replication.scan.conditions import all_of
from xmin_assets.replication.verification.buckets import Buckets
from xmin_assets.replication.verification.classification import DifferenceClassifier, Key, SourceRow, TargetRow
from xmin_assets.replication.verification.sides import ComparedTable, on_both

FETCHED = 5000
"""Rows that one side sends at a time."""


def compare(
    source: ComparedTable,
    target: ComparedTable,
    buckets: Buckets,
    classifier: DifferenceClassifier,
    *,
    ids: tuple[sql.Composable, sql.Composable],
    on_rows_read: Callable[[int], None],
) -> None:
    """Find the differing rows, and let the classifier see them.

    Args:
        source: the source table.
        target: the target table.
        buckets: those that differ.
        classifier: sees the rows.
        ids: what each side sends beside key and hash, see `source_ids` and `target_ids`.
        on_rows_read: called with the number of rows of every portion that was read.

    Raises:
        PlanOutdated: a partition was attached to the source table meanwhile.
        XminAssetsError: a side failed.
    """
    streams = {
        source.database.side: _Stream(source, _rows(source, buckets, ids[0]), on_rows_read),
        target.database.side: _Stream(target, _rows(target, buckets, ids[1]), on_rows_read),
    }
    # Sorting is most of the work, and both sides do it at the same time.
    on_both(source, target, lambda side, _: streams[side.database.side].begin())
    source_stream, target_stream = streams[source.database.side], streams[target.database.side]
    source_stream.other, target_stream.other = target, source
    source_rows = ((row[0], _listed(source, SourceRow(*row[1:]))) for row in source_stream)
    target_rows = ((row[0], TargetRow(*row[1:])) for row in target_stream)
    _walk(source_rows, target_rows, classifier)


def source_ids(
    next_xid: int | None, known: Iterable[int], fresh: Iterable[int], sought: sql.Composable | None
) -> sql.Composable:
    """Build what `SourceRow` has of a source row beside its hash.

    Args:
        next_xid: see `xid.row_xid64`; None where transaction ids mean nothing.
        known: oids of the relations whose rows the last sync has read.
        fresh: oids of those that the next one reads whole.
        sought: the condition that the next sync reads a row; None where its xmin says so.
    """
    if next_xid is None:
        return sql.SQL("NULL::int8, false, true")
    return sql.SQL("""
        {xid64},
        CASE WHEN tableoid = ANY ({known}::oid[]) THEN false WHEN tableoid = ANY ({fresh}::oid[]) THEN true END,
        {sought}
    """).format(
        xid64=xid.row_xid64(next_xid),
        known=sql.Literal(list(known)),
        fresh=sql.Literal(list(fresh)),
        sought=sought or sql.SQL("true"),
    )


def target_ids(next_xid: int, xmin_column: str) -> sql.Composable:
    """Build the source_xmin of a target row, and the xid64 of the transaction that wrote it there."""
    return sql.SQL("{source_xmin}, {xid64}").format(
        source_xmin=sql.Identifier(xmin_column), xid64=xid.row_xid64(next_xid)
    )


def _listed(side: ComparedTable, row: SourceRow) -> SourceRow:
    # Statements find partitions as they are now, and not as they were when the snapshot was taken. Another reason than
    # that would be that syncs do not know all that the table has rows in, which must not pass for a match.
    if row.is_fresh is None:
        raise PlanOutdated(
            f"{side.table} has rows in a relation that was not among its partitions, and children, when its snapshot "
            "was taken. Run it again."
        )
    return row


def _rows(side: ComparedTable, buckets: Buckets, ids: sql.Composable) -> sql.Composable:
    row_format = side.row_format
    return sql.SQL("""
        SELECT ARRAY[{key}], {hash}, {ids}
          FROM {table}
         WHERE {rows}
         ORDER BY {order}
    """).format(
        key=sql.SQL(", ").join(row_format.key_texts()),
        hash=row_format.hash(),
        ids=ids,
        table=side.table.sql,
        rows=all_of(row_format.rows, buckets.narrowed(row_format)),
        # Of several rows with one key (or equal ones, without a key) the oldest are paired, by their ids: what is left
        # over came last. A key may have begun to repeat at the source since the last sync.
        order=sql.SQL(", ").join([*row_format.key_texts(), sql.SQL("3")]),
    )


class _Stream:
    """One side's rows, a portion at a time."""

    def __init__(self, side: ComparedTable, query: sql.Composable, on_rows_read: Callable[[int], None]) -> None:
        self._side = side
        self._query = query
        self._on_rows_read = on_rows_read
        self._rows: list[tuple[Any, ...]] = []
        self.other: ComparedTable | None = None

    def begin(self) -> None:
        """Let the server sort, and fetch the first portion."""
        cursor = self._side.cursor
        # For the first rows of a cursor's result the planner would carry whole rows through the sort.
        cursor.execute("SET LOCAL enable_sort = on; SET LOCAL cursor_tuple_fraction = 1")
        cursor.execute(sql.SQL("DECLARE differing NO SCROLL CURSOR FOR {}").format(self._query))
        self._fetch()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while self._rows:
            for key, *rest in self._rows:
                yield tuple(key), *rest
            with translate_errors(self._side.database, self._side.action):
                self._fetch()
            if self.other:
                with translate_errors(self.other.database, self.other.action):
                    self.other.keep_alive()

    def _fetch(self) -> None:
        self._side.check()
        self._side.cursor.execute(sql.SQL("FETCH FORWARD {} FROM differing").format(sql.Literal(FETCHED)))
        self._rows = self._side.cursor.fetchall()
        self._side.touch()
        self._on_rows_read(len(self._rows))


def _walk(
    source: Iterator[tuple[Key, SourceRow]], target: Iterator[tuple[Key, TargetRow]], classifier: DifferenceClassifier
) -> None:
    source_row, target_row = next(source, None), next(target, None)
    while source_row or target_row:
        # Python compares texts by code points, which is the order of their bytes in UTF-8.
        if target_row is None or (source_row is not None and source_row[0] < target_row[0]):
            assert source_row is not None
            classifier.only_at_source(*source_row)
            source_row = next(source, None)
        elif source_row is None or target_row[0] < source_row[0]:
            classifier.only_in_target(*target_row)
            target_row = next(target, None)
        else:
            classifier.on_both_sides(source_row[0], source_row[1], target_row[1])
            source_row, target_row = next(source, None), next(target, None)
