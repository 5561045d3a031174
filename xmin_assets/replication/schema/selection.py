"""What of a table is copied and how its rows are recognised: from the catalog and the configuration, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import Mode, TableConfig, nearest
from xmin_assets.errors import ConfigError, UnsupportedTable
from xmin_assets.postgres import catalog
from xmin_assets.postgres.identifiers import SYSTEM_COLUMNS
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.postgres.types import FIRST_OWN_OID, types_of
from xmin_assets.replication.manifests.table import Column, Selection
from xmin_assets.replication.scan.where_clause import terms_of

KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
}
"""What a relation that is no table is called, by pg_class.relkind."""

VIEWS = ("v", "m")
"""Kinds that are read by their query's result: their rows have no xmin that shows changes."""


def select(cursor: ext.cursor, table: TableConfig, relation: catalog.Relation, *, has_heirs: bool = False) -> Selection:
    """Return the columns and the key, as the source has them.

    Args:
        cursor: in a transaction at the source, with an empty search_path.
        table: the table's configuration.
        relation: the source table.
        has_heirs: whether other tables inherit from it: no index of it knows their rows.

    Raises:
        ConfigError: the configuration names what the table does not have.
        UnsupportedTable: it lacks a key, cannot be read in this mode, or has a column of a name that the target needs.
    """
    if relation.kind in VIEWS and table.mode is Mode.XMIN_INCREMENTAL:
        raise UnsupportedTable(
            f"{table.label} is {KINDS[relation.kind]}, whose rows have no xmin to go by. Set mode: full_sync, or mode: "
            "incremental_sync with cursor: and key:."
        )
    attributes = catalog.columns_of(cursor, relation.oid)
    names = [attribute.name for attribute in attributes]
    cursor_column = table.cursor if table.mode is Mode.INCREMENTAL_SYNC else None
    for wanted in (
        *(table.columns or ()),
        *table.exclude_columns,
        *(table.key or ()),
        *table.type_overrides,
        *(() if isinstance(table.convert, str) else table.convert),
        *([cursor_column] if cursor_column else []),
    ):
        if wanted not in names:
            raise ConfigError(f"{table.label} has no column {wanted}.{nearest(wanted, names)}")
    chosen = [a for a in attributes if a.name in (table.columns or names) and a.name not in table.exclude_columns]
    if not chosen:
        raise ConfigError(f"{table.label}: no column is left to be copied.")
    guaranteed = catalog.keys_of(cursor, relation.oid)
    key = table.key or next(iter(guaranteed), None) or _no_key(table)
    for column, what in [*((name, "key") for name in key), *([(cursor_column, "cursor")] if cursor_column else [])]:
        if column not in {a.name for a in chosen}:
            raise ConfigError(f"{table.label}: the {what} column {column} must be among the columns that are copied.")
    _require_free_names(table, {a.name for a in chosen})
    if cursor_column:
        _require_cursor(cursor, table, next(a for a in chosen if a.name == cursor_column))
    own = [a for a in chosen if a.type_oid >= FIRST_OWN_OID]
    copied = [a.type_oid for a in own if a.name not in table.type_overrides]
    printed = [a.type_oid for a in own if a.name in table.type_overrides]
    return Selection(
        columns=tuple(
            Column(
                a.attnum,
                a.name,
                a.type,
                a.virtual,
                a.collation,
                override=(override := _override(cursor, table, a.name)),
                compared_as=catalog.as_text_of_labels(cursor, override) if override else None,
                equality=a.equality,
                not_null=a.not_null,
            )
            for a in chosen
        ),
        key=tuple(key),
        where=table.where,
        deletes=table.deletes,
        cursor=cursor_column,
        types=types_of(cursor, copied) if copied else (),
        printed_types=types_of(cursor, printed) if printed else (),
        terms=terms_of(cursor, table, attributes, chosen),
        xmin_column=table.xmin_column,
        deleted_at_column=table.deleted_at_column,
        block_column=table.block_column if table.track_blocks else None,
        unique_key=not has_heirs and any({*columns} <= {*key} for columns in guaranteed),
    )


def with_proven_key(selection: Selection, target: Sequence[catalog.Attribute], former: Mapping[int, str]) -> Selection:
    """Return the selection with its key guaranteed only if no two of the source's keys are equal in the target.

    A key column's type may be another one by configuration, and its collation by how the table was made.

    Args:
        selection: what is copied, as the target has it.
        target: the target's columns; empty if there is no such table yet.
        former: what the target calls the columns that it has from the same relation, by their attnums.
    """
    if not target or not selection.unique_key:
        return selection
    attributes = {attribute.name: attribute for attribute in target}
    is_proven = all(
        _is_as_fine(column, attributes.get(former.get(column.attnum, column.name))) for column in selection.key_columns
    )
    return replace(selection, unique_key=is_proven)


def _is_as_fine(column: Column, attribute: catalog.Attribute | None) -> bool:
    if attribute is None or (column.override and column.origin):
        return False
    # Equality by the type alone is the finest: texts are equal only if their bytes are.
    return attribute.equality == "" or (attribute.equality is not None and attribute.equality == column.equality)


def _no_key(table: TableConfig) -> tuple[str, ...]:
    if table.mode is not Mode.FULL_SYNC:
        raise UnsupportedTable(
            f"{table.label} has no primary key and no unique index over NOT NULL columns. Name columns that identify a "
            "row with key: [a, b], or set mode: full_sync, which replaces the contents as a whole."
        )
    if not table.deletes.removes:
        raise UnsupportedTable(
            f"{table.label} has no key, so a row that is gone cannot be told from one that changed. Set deletes: hard, "
            "or name columns that identify a row with key: [a, b]."
        )
    return ()


def _require_free_names(table: TableConfig, names: set[str]) -> None:
    for name in SYSTEM_COLUMNS:
        if name in names:
            raise UnsupportedTable(
                f"{table.label} has a column {name}, a name that no column of a table can have. Give it another one in "
                f"the view, or leave it out with exclude_columns: [{name}]."
            )
    for setting, own, needed in (
        ("xmin_column", table.xmin_column, True),
        ("deleted_at_column", table.deleted_at_column, table.deletes.marks),
        ("block_column", table.block_column, table.track_blocks),
    ):
        if own in names and needed:
            raise UnsupportedTable(
                f"{table.label} has a column {own}, and xmin_assets adds one of that name to the target. Give ours "
                f"another name with {setting}: xmin_assets_{own}, or leave the source's out with "
                f"exclude_columns: [{own}]."
            )


def _require_cursor(cursor: ext.cursor, table: TableConfig, column: catalog.Attribute) -> None:
    try:
        cursor.execute(sql.SQL("SELECT NULL::{0} >= NULL::{0}").format(sql.SQL(column.type)))
    except psycopg2.errors.UndefinedFunction as error:
        raise ConfigError(
            f"{table.label}: the cursor column {column.name} is {column.type}, whose values have no order. "
            "Name another one."
        ) from error
    lookback = table.cursor_lookback
    if lookback is None:
        return
    if column.category not in ("D", "N"):
        raise ConfigError(
            f"{table.label}: cursor_lookback needs a cursor that is a time or a number; {column.name} is {column.type}."
        )
    if column.category == "N" and isinstance(lookback, str):
        raise ConfigError(f"{table.label}: cursor_lookback must be a number, as {column.name} is {column.type}.")
    if isinstance(lookback, str):
        try:
            cursor.execute("SELECT %s::interval >= '0'::interval AS is_allowed", (lookback,))
        except psycopg2.DataError as error:
            raise ConfigError(
                f"{table.label}: cursor_lookback {lookback!r} is no interval. Write one such as 10 minutes."
            ) from error
        if not fetch_value(cursor, bool):
            raise ConfigError(f"{table.label}: cursor_lookback {lookback!r} must not be negative.")


def _override(cursor: ext.cursor, table: TableConfig, column: str) -> str | None:
    if (wanted := table.type_overrides.get(column)) is None:
        return None
    text = catalog.type_text(cursor, wanted)
    if text is None:
        raise ConfigError(
            f"{table.label}: type_overrides: {wanted!r} for the column {column} is no type. Write it as PostgreSQL "
            "does, with its schema if it is not PostgreSQL's own."
        )
    return text
