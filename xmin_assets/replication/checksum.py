"""One number for the contents of a table, the same on every server that has the same rows."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg2 import sql

from xmin_assets.replication.manifest import Column


def row_hash(
    columns: Iterable[Column], alias: str = "", *, portable: bool = False, place: sql.Composable | None = None
) -> sql.Composable:
    """64 bits of a row's text. Summed up (sum() of int8 is exact), neither the order nor the way of reading matters.

    The text of a value is the same on both sides, because each transaction pins the settings that it depends on. The
    hash function is of the bytes alone (hash_bytes_extended() in PostgreSQL's src/common/hashfn.c), and the same in all
    versions.

    Args:
        columns: what belongs to the row, in order. One whose type is overridden in the target has the text that the
            target's type gives it.
        alias: of the table in the query.
        portable: whether the servers may have other encodings than one another.
        place: the block that the row is in, where that belongs to it, too.
    """
    return hash_of(row_text(columns, alias, portable=portable, place=place))


def row_text(
    columns: Iterable[Column], alias: str = "", *, portable: bool = False, place: sql.Composable | None = None
) -> sql.Composable:
    """A row's text; see `row_hash`."""
    texts = [_text(column, alias) for column in columns]
    if place is not None:
        texts.append(place)
    return text_of(sql.SQL("ROW({})::text").format(sql.SQL(", ").join(texts)), portable)


def text_of(text: sql.Composable, portable: bool) -> sql.Composable:
    """A text as it is, or one that has the same bytes, and so the same order, in databases of all encodings."""
    return sql.SQL("pg_catalog.convert_to({}, 'UTF8')::text").format(text) if portable else text


def hash_of(text: sql.Composable) -> sql.Composable:
    """64 bits of a text."""
    return sql.SQL('pg_catalog.hashtextextended({} COLLATE pg_catalog."C", 0)').format(text)


def _text(column: Column, alias: str) -> sql.Composable:
    name = sql.Identifier(alias, column.name) if alias else sql.Identifier(column.name)
    text = sql.SQL("{}::text").format(name)
    # An overridden type may print another text than the source's does.
    return sql.SQL("{}::{}::text").format(text, sql.SQL(column.override)) if column.override else text
