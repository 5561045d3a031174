"""Rows that a server cannot send: found, so that somebody can mend them.

A server sends text as UTF-8 whatever its database's encoding is. One in SQL_ASCII holds any bytes; those that are no
UTF-8 it refuses to send (https://www.postgresql.org/docs/current/multibyte.html). And no value, nor a row, whose text
has more than 1 GB.
"""

from __future__ import annotations

import io

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import errorcodes, sql

from xmin_assets.errors import DataInvalid, XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.copy import copy_out
from xmin_assets.postgres.error_translation import is_too_large, one_line
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.table import Column
from xmin_assets.replication.scan import where_clause
from xmin_assets.replication.scan.checksum import printed
from xmin_assets.replication.scan.conditions import all_of, where_condition
from xmin_assets.replication.scan.ranges import CtidRange
from xmin_assets.replication.spool.csv_records import format_key

_NOT_IN_UTF8 = (errorcodes.CHARACTER_NOT_IN_REPERTOIRE, errorcodes.UNTRANSLATABLE_CHARACTER)

_TOO_LARGE = "a row is too large to be sent: PostgreSQL writes no text of more than 1 GB, which is a bytea of 500 MB."


def is_unsendable(error: psycopg2.Error) -> bool:
    """Return whether the server has met a row that it cannot send."""
    return error.pgcode in _NOT_IN_UTF8 or is_too_large(error)


class Unsendable(DataInvalid):
    """A row of a range cannot be sent."""

    def __init__(self, error: psycopg2.Error, ctid_range: CtidRange) -> None:
        self.is_too_large = is_too_large(error)
        self.problem = _TOO_LARGE if self.is_too_large else one_line(error)
        self.ctid_range = ctid_range
        super().__init__(self.problem)


def explained(source: Database, snapshot: SourceSnapshot, error: Unsendable) -> DataInvalid:
    """Return the error with the key of the row and the column that it is about, if they can be found.

    They are looked for in a transaction of their own: the one that met them is over.
    """
    action = f"{snapshot.table}: looking for the row that cannot be sent"
    where = ""
    try:
        with transaction_on(source, TransactionMode.READ_SNAPSHOT, action) as cursor:
            where_clause.use_search_path(cursor, snapshot.source_selection.terms.path)
            where = _Search(cursor, snapshot, error.ctid_range).run()
    except XminAssetsError:
        pass  # the row may be gone by now; what is wrong is known all the same
    way_out = "Leave it" if error.is_too_large else "Mend the value at the source, or leave it"
    return DataInvalid(f"{snapshot.table}: {error.problem}{where} {way_out} out with exclude_columns or where.")


class _Search:
    """Looks for a row that cannot be sent, by halves."""

    def __init__(self, cursor: ext.cursor, snapshot: SourceSnapshot, ctid_range: CtidRange) -> None:
        self._cursor = cursor
        self._snapshot = snapshot
        self._span = ctid_range

    def run(self) -> str:
        """Return which row and column it is, as the end of a sentence."""
        leaf, start = self._span.leaf, self._span.start
        if leaf is None:
            return ""
        end = self._span.end or self._blocks()
        while end - start > 1:
            middle = (start + end) // 2
            if self._fails(self._columns(), self._between(start, middle)):
                end = middle
            else:
                start = middle
        self._cursor.execute(
            sql.SQL("SELECT ctid::text FROM ONLY {} WHERE {}").format(
                leaf.name.sql, self._sent(self._between(start, end))
            )
        )
        for (place,) in self._cursor.fetchall():
            row = sql.SQL("ctid = {}::tid").format(sql.Literal(place))
            if self._fails(self._columns(), row):
                return f" It is in {self._column(row)}, {self._key(row, place)}."
        return ""

    def _blocks(self) -> int:
        assert self._span.leaf is not None
        self._cursor.execute(
            "SELECT pg_catalog.pg_relation_size(%s) / pg_catalog.current_setting('block_size')::int8 AS blocks",
            (self._span.leaf.oid,),
        )
        return fetch_value(self._cursor, int)

    def _columns(self) -> tuple[Column, ...]:
        return self._snapshot.source_selection.columns

    @staticmethod
    def _between(start: int, end: int) -> sql.Composed:
        return sql.SQL("ctid >= {}::tid AND ctid < {}::tid").format(
            sql.Literal(f"({start},0)"), sql.Literal(f"({end},0)")
        )

    def _sent(self, rows: sql.Composable) -> sql.Composable:
        """Build the condition on these rows, as far as they are copied."""
        return all_of(rows, where_condition(self._snapshot.source_selection.where))

    def _fails(self, columns: tuple[Column, ...], rows: sql.Composable) -> bool:
        assert self._span.leaf is not None
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        query = sql.SQL("SELECT {} FROM ONLY {} WHERE {}").format(names, self._span.leaf.name.sql, self._sent(rows))
        self._cursor.execute("SAVEPOINT search")
        try:
            copy_out(self._cursor, query, _Nowhere())
        except psycopg2.Error as error:
            if not is_unsendable(error):
                raise
            self._cursor.execute("ROLLBACK TO SAVEPOINT search")
            return True
        self._cursor.execute("RELEASE SAVEPOINT search")
        return False

    def _column(self, row: sql.Composable) -> str:
        name = next((column.name for column in self._columns() if self._fails((column,), row)), "the row")
        return f"column {name}"

    def _key(self, row: sql.Composable, place: str) -> str:
        key = self._snapshot.source_selection.key_columns
        if not key or self._fails(key, row):
            return f"in the row at ctid {place}"
        assert self._span.leaf is not None
        key_text = sql.SQL(", ").join(printed(sql.Identifier(column.name)) for column in key)
        self._cursor.execute(sql.SQL("SELECT {} FROM ONLY {} WHERE {}").format(key_text, self._span.leaf.name.sql, row))
        return "in the row with " + format_key(key, self._cursor.fetchone() or ())


class _Nowhere(io.BytesIO):
    def write(self, data: object) -> int:
        return len(data)  # type: ignore[arg-type]
