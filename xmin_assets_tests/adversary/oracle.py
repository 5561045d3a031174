"""What is right: plain SELECTs, by sessions of the oracle's own, under snapshots that see what the engine's see.

Nothing here is the engine's. A value is what its type's output function writes, which is what format() uses; a cast to
text may write another thing (of boolean, say).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

Row = tuple[Any, ...]
KEY = ("id", "part")

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
  FROM pg_attribute a
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

# What decides how rows print and which there are, besides the rows: of columns and of all types that users have made.
_SHAPE = """
SELECT (SELECT string_agg(concat_ws(' ', attrelid, attnum, attname, atttypid, atttypmod, attisdropped, attgenerated,
                                    attmissingval, d.adbin), ',' ORDER BY attrelid, attnum)
          FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
         WHERE a.attrelid >= 16384 AND a.attnum > 0),
       (SELECT string_agg(concat_ws(' ', oid, enumtypid, enumlabel), ',' ORDER BY oid) FROM pg_enum),
       (SELECT string_agg(concat_ws(' ', inhrelid, inhparent, inhdetachpending), ',' ORDER BY inhrelid, inhparent)
          FROM pg_inherits),
       (SELECT string_agg(concat_ws(' ', oid, relname, relpersistence), ',' ORDER BY oid)
          FROM pg_class WHERE oid >= 16384)
"""


_TYPES = """
SELECT (SELECT string_agg(concat_ws(' ', enumtypid, enumlabel), ',' ORDER BY oid) FROM pg_enum),
       (SELECT string_agg(concat_ws(' ', attrelid, attnum, attname, atttypid), ',' ORDER BY attrelid, attnum)
          FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
         WHERE c.relkind = 'c' AND c.oid >= 16384 AND attnum > 0 AND NOT attisdropped)
"""


@dataclass(frozen=True)
class Picture:
    """A table under one snapshot, as a target is to have it."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    shape: Row
    """Of the whole database's columns and types."""

    @property
    def counted(self) -> Counter[Row]:
        """How often there is each row."""
        return Counter(self.rows)

    def by_key(self) -> dict[Row, Row]:
        """The rows by key."""
        places = [self.columns.index(name) for name in KEY]
        return {tuple(row[place] for place in places): row for row in self.rows}

    @property
    def repeats_keys(self) -> bool:
        """Whether two rows have the same key."""
        return len(self.by_key()) < len(self.rows)


@dataclass(frozen=True)
class Image:
    """A target table with all of its columns."""

    columns: dict[str, str]
    rows: frozenset[tuple[Row, int]]
    types: Row
    """The labels and attributes of all types: they change before the merge, and with them how rows print."""

    def change(self, now: Image) -> str | None:
        """How another image of the table differs, if not by its types; None if it does not."""
        if self.types != now.types or self == now:
            return None
        gone, come = list(self.rows - now.rows)[:3], list(now.rows - self.rows)[:3]
        return f"columns {self.columns} are {now.columns}; gone: {gone}; come: {come}"


class Oracle:
    """Looks at both sides."""

    def __init__(self, source: Connection, target: Connection) -> None:
        self._source = source
        self._target = target

    @property
    def connected_target(self) -> Connection:
        """The session at the target."""
        return self._target

    def source(self, table: str, where: str | None, only: Sequence[str] | None, without: Sequence[str]) -> Picture:
        """What a copy of the table is to be now.

        Raises:
            psycopg2.Error: there is no such table, or the condition does not hold for it.
        """
        with self._source.cursor() as cursor:
            cursor.execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                cursor.execute(_COLUMNS, (table,))
                names = [name for (name, _) in cursor.fetchall()]
                columns = tuple(name for name in names if name in (only or names) and name not in without)
                rows = self._rows(cursor, table, columns, f"({where})" if where else "true")
                cursor.execute(_SHAPE)
                return Picture(columns, rows, cursor.fetchone() or ())
            finally:
                if not self._source.closed:
                    cursor.execute("ROLLBACK")

    def columns(self, table: str) -> dict[str, str]:
        """The source table's columns with their types; none where there is no such table."""
        with self._source.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
            if cursor.fetchone() != (True,):
                return {}
            cursor.execute(_COLUMNS, (table,))
            return dict(cursor.fetchall())

    def expression_error(self, table: str, where: str) -> str | None:
        """Why PostgreSQL does not take the condition; None if it does."""
        with self._source.cursor() as cursor:
            try:
                cursor.execute(f"SELECT 1 FROM {table} WHERE ({where}) LIMIT 1")
            except psycopg2.errors.LockNotAvailable:
                return None
            except psycopg2.Error as error:
                return str(error).splitlines()[0]
        return None

    def target(self, table: str, columns: Sequence[str], not_deleted: str = "true") -> tuple[Row, ...]:
        """The target's rows.

        Raises:
            psycopg2.Error: it lacks a column, or there is no such table.
        """
        with self._target.cursor() as cursor:
            return self._rows(cursor, table, columns, not_deleted)

    def target_columns(self, table: str) -> dict[str, str]:
        """The target's columns with their types; none where there is no table."""
        with self._target.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
            if cursor.fetchone() != (True,):
                return {}
            cursor.execute(_COLUMNS, (table,))
            return dict(cursor.fetchall())

    def image(self, table: str) -> Image:
        """All of the target table, to tell whether it changed."""
        columns = self.target_columns(table)
        rows = self.target(table, list(columns)) if columns else ()
        with self._target.cursor() as cursor:
            cursor.execute(_TYPES)
            return Image(columns, frozenset(Counter(rows).items()), cursor.fetchone() or ())

    @staticmethod
    def _rows(cursor: Any, table: str, columns: Sequence[str], condition: str) -> tuple[Row, ...]:
        listed = ", ".join(
            f"CASE WHEN num_nulls(t.{quoted(c)}) = 0 THEN format('%s', t.{quoted(c)}) END" for c in columns
        )
        cursor.execute(f"SELECT {listed} FROM {table} AS t WHERE {condition}")
        return tuple(cursor.fetchall())


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'
