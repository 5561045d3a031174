"""Changing a target's columns: whether it can be done, found out before anything is copied, and doing it."""

from __future__ import annotations

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import errorcodes, sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.postgres.types import UserType
from xmin_assets.replication.manifests.facts import SourceFacts, TargetFacts
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.schema.column_changes import column_changes
from xmin_assets.replication.schema.column_operations import (
    AlterColumnType,
    ColumnOperation,
    DropColumn,
    RenameColumn,
    now_called,
)
from xmin_assets.replication.schema.keys import key_changes

_DEPENDENTS = """
SELECT a.attname::text, pg_catalog.format('%%I.%%I', n.nspname, v.relname)
  FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
  JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.oid <> d.refobjid
  JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
   AND d.refobjid = %s AND a.attname = ANY(%s)
 ORDER BY 1, 2
"""


_REFUSALS = {
    errorcodes.DATATYPE_MISMATCH,
    errorcodes.CANNOT_COERCE,
    errorcodes.FEATURE_NOT_SUPPORTED,
    errorcodes.DEPENDENT_OBJECTS_STILL_EXIST,
}


def require_alterable(
    target: Database, table: TableConfig, source: SourceFacts, here: TargetFacts, state: State | None
) -> list[sql.Composed]:
    """Make sure that the target's columns can be changed as they must be, before rows are read for it.

    Returns:
        What the merge will do about the target's key.

    Raises:
        SchemaChangeRefused: a value cannot be converted, or a view stands in the way.
    """
    known = state if state and here.oid == state.target_oid else None
    changes = column_changes(table, source, here, known)
    key = source.selection.key
    same_key = known is not None and now_called(known.selection.key, changes) == key
    if here.oid is None or (
        same_key and not any(isinstance(change, (AlterColumnType, DropColumn)) for change in changes)
    ):
        return []
    with transaction_on(target, TransactionMode.WRITE, f"{table.label}: looking at the target's columns") as cursor:
        before: list[sql.Composed] = []
        after: list[sql.Composed] = []
        if not same_key:
            former = known.selection.key if known else None
            before, after = key_changes(cursor, table.target_name, here.oid, former, key)
        _require_free(cursor, table, here.oid, changes)
        for change in changes:
            if isinstance(change, AlterColumnType):
                _require_cast(cursor, table, change, source.selection.types)
    return [*before, *after]


def alter(cursor: ext.cursor, table: TableConfig, changes: tuple[ColumnOperation, ...]) -> None:
    """Change the target's columns, in the merge transaction.

    Raises:
        SchemaChangeRefused: the server refuses a change for a reason that a person must remove.
    """
    for change in changes:
        _alter_one(cursor, table, change)


def _alter_one(cursor: ext.cursor, table: TableConfig, change: ColumnOperation) -> None:
    statement = change.statement(table.target_name)
    try:
        cursor.execute(statement)
    except psycopg2.Error as error:
        if error.pgcode not in _REFUSALS and (error.pgcode or "")[:2] != errorcodes.CLASS_DATA_EXCEPTION:
            raise
        raise SchemaChangeRefused(
            f"{table.label}: the target refuses {as_text(statement)}: {one_line(error)} Nothing was merged. "
            f"{_ways_out(change)}"
        ) from None


def _require_free(cursor: ext.cursor, table: TableConfig, oid: int, changes: tuple[ColumnOperation, ...]) -> None:
    names: dict[str, ColumnOperation] = {}
    was = {change.to: change.name for change in changes if isinstance(change, RenameColumn)}
    for change in changes:
        if isinstance(change, (AlterColumnType, DropColumn)):
            names[change.name if isinstance(change, DropColumn) else was.get(change.name, change.name)] = change
    cursor.execute(_DEPENDENTS, (oid, list(names)))
    found = cursor.fetchall()
    if found:
        column, _ = found[0]
        views = ", ".join(dict.fromkeys(view for name, view in found if name == column))
        what = as_text(names[column].statement(table.target_name))
        raise SchemaChangeRefused(
            f"{table.label}: {views} in the target depends on the column {column}, which must be changed: {what}. "
            "Nothing was changed. Drop the view, run the sync, and create the view again."
        )


def _require_cast(cursor: ext.cursor, table: TableConfig, change: AlterColumnType, types: tuple[UserType, ...]) -> None:
    made = next((made for made in types if made.text == change.type), None)
    # A domain that the sync will make is castable to as its base is.
    wanted = made.base if made and made.kind == "domain" and made.base else change.type
    probe = sql.Identifier("pg_temp", "xmin_assets_cast")
    cursor.execute("SAVEPOINT probe")
    try:
        cursor.execute(sql.SQL("CREATE TEMPORARY TABLE xmin_assets_cast (c {})").format(sql.SQL(change.was)))
        cursor.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN c TYPE {}").format(probe, sql.SQL(wanted)))
    except (psycopg2.errors.DatatypeMismatch, psycopg2.errors.UndefinedObject):
        raise SchemaChangeRefused(
            f"{table.label}: the column {change.name} is {change.type} at the source now and {change.was} in the "
            f"target, and PostgreSQL does not convert the one into the other by itself. Nothing was changed. "
            f"{_ways_out(change)}"
        ) from None
    cursor.execute("ROLLBACK TO SAVEPOINT probe")


def _ways_out(change: ColumnOperation) -> str:
    if isinstance(change, AlterColumnType):
        return (
            f"Convert the target's column yourself (ALTER COLUMN ... TYPE {change.type} USING ...), drop it there to "
            f"have it copied anew, store it as text with type_overrides: {{{change.name}: text}}, or leave it out with "
            f"exclude_columns: [{change.name}]."
        )
    return "Change what the message names, and run the sync again."
