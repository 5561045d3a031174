"""Whether a target table holds what the source table holds, asked of the two servers and not of the engine."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""

# A sum of hashes does not depend on the order of rows, and counts a row that is there twice.
DIGEST = """
SELECT count(*), coalesce(sum(hashtextextended(ROW({columns})::text, 0)), 0)::text FROM {table}
"""


@dataclass(frozen=True)
class Comparison:
    """The rows of a table on both sides, and whether they are the same, value by value."""

    table: str
    source_rows: int
    target_rows: int
    same: bool


def compare(source_url: str, target_url: str, tables: tuple[str, ...]) -> list[Comparison]:
    """Compare the source's columns of each table (``schema.table``) on both sides."""
    comparisons = []
    with closing(psycopg2.connect(source_url)) as source, closing(psycopg2.connect(target_url)) as target:
        for table in tables:
            with source.cursor() as cursor:
                cursor.execute(COLUMNS, (table,))
                columns = [column for (column,) in cursor.fetchall()]
            left, right = _digest(source, table, columns), _digest(target, table, columns)
            comparisons.append(Comparison(table, left[0], right[0], same=left == right))
    return comparisons


def _digest(connected: Connection, table: str, columns: list[str]) -> tuple[int, str]:
    with connected.cursor() as cursor:
        # Values are compared as text, so both sides have to write them alike.
        cursor.execute("SET LOCAL TimeZone = 'UTC'")
        cursor.execute(
            sql.SQL(DIGEST).format(
                columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
                table=sql.Identifier(*table.split(".")),
            )
        )
        rows, digest = cursor.fetchone() or (0, "")
        return rows, digest
