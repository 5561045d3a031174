"""One number for the contents of a table, the same on every server that has the same rows."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg2 import sql

from xmin_assets.replication.manifest import Column


def row_hash(columns: Iterable[Column], alias: str = "") -> sql.Composable:
    """64 bits of a row's text. Summed as numeric, the order of the rows and the way they are read do not matter.

    The text of a value is the same on both sides, because each transaction pins the settings that it depends on. The
    hash function is of the bytes alone (hash_bytes_extended() in PostgreSQL's src/common/hashfn.c), and the same in all
    versions.

    Args:
        columns: what belongs to the row, in order.
        alias: of the table in the query.
    """
    names = [sql.Identifier(alias, column.name) if alias else sql.Identifier(column.name) for column in columns]
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in names)
    return sql.SQL('pg_catalog.hashtextextended(ROW({})::text COLLATE pg_catalog."C", 0)::numeric').format(texts)
