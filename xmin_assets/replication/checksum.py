"""One number for the contents of a table, the same on every server that has the same rows."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg2 import sql

from xmin_assets.replication.manifest import Column


def row_hash(columns: Iterable[Column], alias: str = "", *, encoded: bool = False) -> sql.Composable:
    """64 bits of a row's text, as bigint. In a sum the order of the rows and the way they are read do not matter.

    The text of a value is the same on both sides, because each transaction pins the settings that it depends on. The
    hash function is of the bytes alone (hash_bytes_extended() in PostgreSQL's src/common/hashfn.c), and the same in all
    versions.

    Args:
        columns: what belongs to the row, in order. One whose type is overridden in the target has the text that the
            target's type gives it.
        alias: of the table in the query.
        encoded: hash the text's bytes in UTF-8, for two databases of different encodings.
    """
    row = sql.SQL("ROW({})::text").format(sql.SQL(", ").join(_text(column, alias) for column in columns))
    if encoded:
        row = sql.SQL("pg_catalog.encode(pg_catalog.convert_to({}, 'UTF8'), 'hex')").format(row)
    return sql.SQL('pg_catalog.hashtextextended({} COLLATE pg_catalog."C", 0)').format(row)


def _text(column: Column, alias: str) -> sql.Composable:
    name = sql.Identifier(alias, column.name) if alias else sql.Identifier(column.name)
    text = sql.SQL("{}::text").format(name)
    return sql.SQL("{}::{}::text").format(text, sql.SQL(column.override)) if column.override else text
