"""Altering a target's columns: whether it can be done, found out before anything is copied, and doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import errorcodes, sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.dependents import dropped_along
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.manifests.facts import TargetFacts
from xmin_assets.replication.manifests.operations import (
    AlterColumnType,
    ColumnOperation,
    DropColumn,
    names_before,
)
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.schema.obstacles import require_unhindered
from xmin_assets.replication.schema.refusals import advice_for
from xmin_assets.replication.schema.rehearsal import rehearse
from xmin_assets.replication.schema.rights import require_ownership
from xmin_assets.replication.schema.type_making import make_type

_IN_THE_KEY = (
    "It is in the key, by which rows are found: convert the target's column yourself (ALTER COLUMN {name} TYPE {type} "
    "USING ...), or rename or drop the target table to have it loaded again."
)

_REFUSALS = {
    errorcodes.DATATYPE_MISMATCH,
    errorcodes.CANNOT_COERCE,
    errorcodes.FEATURE_NOT_SUPPORTED,
    errorcodes.DEPENDENT_OBJECTS_STILL_EXIST,
}


@dataclass(frozen=True)
class Alterable:
    """What was found out about changes that the server will carry out."""

    refilled: frozenset[str] = frozenset()
    """Columns whose values are to be read again instead of converted."""
    dropped_along: tuple[str, ...] = ()
    """Indexes, constraints and statistics that go with columns that are dropped, for people."""


def require_alterable(
    target: Database,
    table: TableConfig,
    present: TargetFacts,
    key: Sequence[str],
    plan: Plan,
    type_statements: Sequence[sql.Composed],
) -> Alterable:
    """Make sure that the target's columns can be altered as planned, before rows are read for it.

    Args:
        target: the target database.
        table: the table's configuration.
        present: the target table.
        key: columns by which rows are merged, and which none can do without.
        plan: what is to be done to it.
        type_statements: what the sync will do to the types before. It is done and undone here, since whether a column
            can be altered to a type that is not there yet cannot be known without it.

    Raises:
        SchemaChangeRefused: a value cannot be converted, something of the target's users stands in the way, or the
            server refuses a change for another reason.
        UnsupportedTable: the role may not alter the table, or not make a type.
    """
    if present.oid is None or not (plan.column_operations or plan.drop_key or plan.add_key):
        return Alterable()
    drops = [operation.name for operation in plan.column_operations if isinstance(operation, DropColumn)]
    with transaction_on(target, TransactionMode.WRITE, f"{table.label}: looking at the target's columns") as cursor:
        require_ownership(cursor, table, present.oid, plan)
        require_unhindered(cursor, table, present.oid, plan)
        along = dropped_along(cursor, present.oid, drops) if drops else ()
        cursor.execute("SAVEPOINT probe")
        for statement in type_statements:
            make_type(cursor, table.label, statement)
        # A role that may make no temporary table hears of the rest from the merge.
        can_try = _may_make_temporary_tables(cursor)
        refilled = _require_casts(cursor, table, plan.column_operations, key) if can_try else frozenset()
        if can_try and not refilled:  # else there is another plan
            rehearse(cursor, table, present.oid, plan)
        cursor.execute("ROLLBACK TO SAVEPOINT probe")
    return Alterable(refilled, along)


def _may_make_temporary_tables(cursor: ext.cursor) -> bool:
    cursor.execute("SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY') AS may")
    return fetch_value(cursor, bool)


def alter(cursor: ext.cursor, table: TableConfig, operations: Sequence[ColumnOperation]) -> None:
    """Alter the target's columns, in the merge transaction.

    Raises:
        SchemaChangeRefused: the server refuses a change for a reason that a person must remove.
    """
    for operation in operations:
        statement = operation.statement(table.target_name)
        try:
            cursor.execute(statement)
        except psycopg2.Error as error:
            if error.pgcode not in _REFUSALS and (error.pgcode or "")[:2] != errorcodes.CLASS_DATA_EXCEPTION:
                raise
            raise SchemaChangeRefused(
                f"{table.label}: the target refuses {as_text(statement)}: {one_line(error)} Nothing was merged. "
                f"{advice_for(error, table, operation, operations)}"
            ) from error


def _require_casts(
    cursor: ext.cursor, table: TableConfig, operations: Sequence[ColumnOperation], key: Sequence[str]
) -> frozenset[str]:
    """Make sure that PostgreSQL converts every column by itself; name all those that it does not.

    Returns:
        Those whose values are to be read again.
    """
    retyped = [
        operation for operation in operations if isinstance(operation, AlterColumnType) and not operation.is_refilled
    ]
    refused = {operation: error for operation in retyped if (error := _cast_error(cursor, operation))}
    refilled = {
        operation
        for operation in retyped
        if operation.name not in key and table.refills(operation.name, is_converted=operation not in refused)
    }
    refused = {operation: error for operation, error in refused.items() if operation not in refilled}
    if not refused:
        return frozenset(operation.name for operation in refilled)
    names = dict(zip(refused, names_before([operation.name for operation in refused], operations), strict=True))
    if len(refused) > 1:
        columns = ", ".join(f"{names[operation]} ({operation.was} to {operation.type})" for operation in refused)
        raise SchemaChangeRefused(
            f"{table.label}: PostgreSQL does not convert these columns of the target by itself: {columns}. Nothing was "
            "changed. To have their values read again from the source, set convert: refill. Or convert them yourself "
            "(ALTER COLUMN ... TYPE ... USING ...), store them as text with type_overrides, or leave them out with "
            "exclude_columns: "
            f"[{', '.join(operation.name for operation in refused)}]."
        ) from next(iter(refused.values()))
    ((operation, error),) = refused.items()
    name = names[operation]
    called = f"; the target still calls it {name}" if name != operation.name else ""
    then = ", type_overrides no longer names it, and it is" if operation.override_ended else " now and"
    raise SchemaChangeRefused(
        f"{table.label}: the column {operation.name} is {operation.type} at the source{then} {operation.was} in "
        f"the target{called}. PostgreSQL does not convert the one into the other by itself. Nothing was changed. "
        f"{_IN_THE_KEY.format(name=name, type=operation.type) if operation.name in key else operation.advice}"
    ) from error


def _cast_error(cursor: ext.cursor, operation: AlterColumnType) -> psycopg2.Error | None:
    """Return why PostgreSQL does not convert a column by itself; None if it does."""
    probe = sql.Identifier("pg_temp", "xmin_assets_cast")
    cursor.execute("SAVEPOINT cast_probe")
    try:
        cursor.execute(sql.SQL("CREATE TEMPORARY TABLE xmin_assets_cast (c {})").format(sql.SQL(operation.was)))
        cursor.execute(
            sql.SQL("ALTER TABLE {} ALTER COLUMN c TYPE {}{}").format(
                probe, sql.SQL(operation.type), operation.using("c")
            )
        )
    except psycopg2.errors.DatatypeMismatch as error:
        return error
    finally:
        cursor.execute("ROLLBACK TO SAVEPOINT cast_probe")
    return None
