"""The columns of a table, for statements that are put together by hand."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2 import sql

from xmin_assets_tests.clusters import Database

_COLUMNS = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)
  FROM pg_attribute a
 WHERE a.attrelid = format('public.%%I', %s::text)::regclass AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""


@dataclass(frozen=True)
class Column:
    """A column as the source has it."""

    name: str
    type: str

    @property
    def sql(self) -> sql.Identifier:
        return sql.Identifier(self.name)


def columns_of(database: Database, table: str) -> list[Column]:
    """Return the columns of a table of the schema public, in their order."""
    return [Column(*row) for row in database.fetch(_COLUMNS, (table,))]


def listed(columns: list[Column], prefix: str = "") -> sql.Composed:
    """Return their names, for a SELECT or INSERT; with a prefix such as ``t.``."""
    return sql.SQL(", ").join(sql.SQL(prefix) + column.sql for column in columns)
