"""Whether a copy has the source's rows and key: the number of rows, a checksum over all values, a unique index.

The copy's values are cast to the source's types first: a program that keeps a numeric as a wider one has copied the
value. What it adds in columns of its own is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2
from psycopg2 import sql

from benchmarks.columns import Column, columns_of
from benchmarks.data import KEY
from xmin_assets_tests.clusters import Database

EQUAL = "equal"

_HAS_KEY = """
SELECT EXISTS (SELECT FROM pg_index i
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE i.indrelid = format('public.%%I', %s::text)::regclass AND i.indisunique AND i.indnkeyatts = 1
                  AND a.attname = %s)
"""


@dataclass(frozen=True)
class Contents:
    """What a table holds."""

    rows: int
    checksum: int


def contents_of(database: Database, tables: tuple[str, ...]) -> dict[str, tuple[list[Column], Contents]]:
    """Return columns and contents of tables of the source."""
    found = {}
    for table in tables:
        columns = columns_of(database, table)
        found[table] = (columns, _contents(database, table, columns))
    return found


def compare(source: dict[str, tuple[list[Column], Contents]], copy: Database) -> str:
    """Return what is wrong with a copy, in words; `EQUAL` if nothing is."""
    missing = extra = 0
    differ = keyless = False
    for table, (columns, wanted) in source.items():
        try:
            found = _contents(copy, table, columns)
            ((has_key,),) = copy.fetch(_HAS_KEY, (table, KEY))
        except psycopg2.Error as error:
            return str(error).splitlines()[0]
        missing += max(0, wanted.rows - found.rows)
        extra += max(0, found.rows - wanted.rows)
        differ = differ or (wanted.rows == found.rows and wanted.checksum != found.checksum)
        keyless = keyless or not has_key
    said = [f"{missing} rows too few"] * bool(missing) + [f"{extra} rows too many"] * bool(extra)
    said += ["values differ"] * differ
    return ", ".join((said or [EQUAL]) + ["no key"] * keyless)


def _contents(database: Database, table: str, columns: list[Column]) -> Contents:
    values = sql.SQL(", ").join(sql.SQL("{}::{}").format(column.sql, sql.SQL(column.type)) for column in columns)
    query = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)), 0) FROM {}").format(
        values, sql.Identifier("public", table)
    )
    # The sides need not have one time zone.
    database.execute("SET timezone = 'UTC'")
    ((rows, checksum),) = database.fetch(query)
    return Contents(rows, int(checksum))
