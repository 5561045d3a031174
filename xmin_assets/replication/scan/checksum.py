"""One number for the contents of a table, the same on every server that has the same rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from psycopg2 import sql

from xmin_assets.replication.manifests.table import Column


def row_hash(
    columns: Iterable[Column], alias: str = "", *, encodings_differ: bool = False, block: sql.Composable | None = None
) -> sql.Composable:
    """Build 64 bits of a row's text. Summed up (sum() of int8 is exact), the order of rows does not matter.

    The text of a value is the same on both sides, because each transaction pins the settings that it depends on. The
    hash function is of the bytes alone (hash_bytes_extended() in PostgreSQL's src/common/hashfn.c), and the same in all
    versions.

    Args:
        columns: what belongs to the row, in order. One whose type is overridden in the target has the text that the
            target's type gives it.
        alias: of the table in the query.
        encodings_differ: whether the servers may have other encodings than one another.
        block: that the row is in, where that belongs to it, too.
    """
    return hash_of(row_text(columns, alias, encodings_differ=encodings_differ, block=block))


def row_text(
    columns: Iterable[Column], alias: str = "", *, encodings_differ: bool = False, block: sql.Composable | None = None
) -> sql.Composable:
    """Build a row's text; see `row_hash`.

    A record prints its values by the output functions of their types (record_out() in PostgreSQL's
    src/backend/utils/adt/rowtypes.c), and so does COPY. A cast to text may print something else: that of boolean,
    char(n) and inet does, and anybody may create one for a type.
    """
    values = [value_of(column, alias) for column in columns]
    if block is not None:
        values.append(block)
    return text_of(sql.SQL("ROW({})::text").format(sql.SQL(", ").join(values)), encodings_differ)


def value_of(column: Column, alias: str = "") -> sql.Composable:
    """Build a column's value; where the target has another type, what that type makes of the text that COPY writes."""
    name = sql.Identifier(alias, column.name) if alias else sql.Identifier(column.name)
    if not column.override:
        return name
    # IS NOT NULL would ask for the parts of a composite value.
    return sql.SQL("CASE WHEN {name} IS DISTINCT FROM NULL THEN {text}::{type} END").format(
        name=name, text=printed(name), type=sql.SQL(column.compared_as or column.override)
    )


def as_in_target(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Return the columns as the target has them, where an overridden type is the column's own."""
    return tuple(replace(column, override=None) for column in columns)


def printed(value: sql.Composable) -> sql.Composable:
    """Build the text that a value's output function writes, and COPY sends; an empty one for NULL."""
    return sql.SQL("pg_catalog.format('%s', {})").format(value)


def text_of(text: sql.Composable, encodings_differ: bool) -> sql.Composable:
    """Build a text as it is, or one that has the same bytes, and so the same order, in databases of all encodings."""
    return (
        sql.SQL("pg_catalog.encode(pg_catalog.convert_to({}, 'UTF8'), 'hex')").format(text)
        if encodings_differ
        else text
    )


def hash_of(text: sql.Composable) -> sql.Composable:
    """Build 64 bits of a text."""
    return sql.SQL('pg_catalog.hashtextextended({} COLLATE pg_catalog."C", 0)').format(text)
