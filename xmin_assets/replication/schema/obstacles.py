"""What of the target's users stands in the way of a planned change, found before anything is read."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2.extensions as ext

from xmin_assets.config import TableConfig
from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.dependents import (
    Dependent,
    Shape,
    dependents_of_columns,
    dependents_of_dropped,
    dependents_of_key,
    shape_of,
    unidentified_without,
)
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.replication.manifests.operations import (
    AddColumn,
    ColumnOperation,
    DropColumn,
    DropDefault,
    DropKey,
    DropNotNull,
    Operation,
    RenameColumn,
    names_before,
)
from xmin_assets.replication.manifests.plan import Plan

_THEN_AGAIN = "Drop it, run the sync, and create it again."


def require_unhindered(cursor: ext.cursor, table: TableConfig, oid: int, plan: Plan) -> None:
    """Make sure that nothing of the target's users keeps its columns and key from being changed as planned.

    Args:
        cursor: in a transaction at the target.
        table: the table's configuration.
        oid: of the target table.
        plan: what is to be done to it.

    Raises:
        SchemaChangeRefused: something does; it is named, with what to do.
    """
    _require_own_columns(table, shape_of(cursor, oid), plan.column_operations)
    if plan.drop_key and (found := dependents_of_key(cursor, oid, plan.drop_key.constraint)):
        raise _refused(table, found, f"the key {plan.drop_key.constraint}", plan.drop_key)
    altered = _altered(plan.column_operations)
    if altered and (found := dependents_of_columns(cursor, oid, list(altered))):
        column = found[0].column
        same = [dependent for dependent in found if dependent.column == column]
        raise _refused(table, same, f"the column {column}", altered[column])
    drops = [name for name, operation in altered.items() if isinstance(operation, DropColumn)]
    if drops and (found := dependents_of_dropped(cursor, oid, drops)):
        column = found[0].column
        same = [dependent for dependent in found if dependent.column == column]
        raise _refused(table, same, f"the column {column}", altered[column])
    _require_replica_identity(cursor, table, oid, plan)


def _require_replica_identity(cursor: ext.cursor, table: TableConfig, oid: int, plan: Plan) -> None:
    """Refuse to drop what a publication tells rows by: PostgreSQL would update and delete none any more."""
    drops = [operation for operation in plan.column_operations if isinstance(operation, DropColumn)]
    operation = plan.drop_key or next(iter(drops), None)
    if operation is None:
        return
    constraint = plan.drop_key.constraint if plan.drop_key else None
    found = unidentified_without(cursor, oid, constraint, [drop.name for drop in drops])
    if found:
        way_out = "; ".join(f"ALTER TABLE {name} REPLICA IDENTITY FULL" for name in found)
        raise SchemaChangeRefused(
            f"{table.label}: a publication in the target publishes {', '.join(found)}, whose replica identity goes "
            f"with what must be changed: {as_text(operation.statement(table.target_name))}. Nothing was changed. "
            f"Run there: {way_out}, and run the sync again; or take the table out of the publication."
        )


def _altered(operations: Sequence[ColumnOperation]) -> dict[str, ColumnOperation]:
    """Return what is altered or dropped, by the names that the columns have now."""
    names_now = {rename.to: rename.name for rename in operations if isinstance(rename, RenameColumn)}
    return {
        # What is dropped is dropped before any rename.
        name if isinstance(operation, DropColumn) else names_now.get(name, name): operation
        for operation in operations
        if (name := operation.altered_column)
    }


def _refused(
    table: TableConfig, dependents: Sequence[Dependent], what: str, operation: Operation
) -> SchemaChangeRefused:
    names = ", ".join(dict.fromkeys(dependent.object for dependent in dependents))
    if isinstance(operation, DropColumn):
        otherwise = "Drop it and run the sync again, or keep the column with dropped_columns: keep."
    elif isinstance(operation, DropKey):
        otherwise = "Drop it and run the sync again."
    else:
        otherwise = _THEN_AGAIN
    way_out = {
        "view": "Drop the view, run the sync, and create the view again.",
        "publication": "Take the table out of the publication (ALTER PUBLICATION ... DROP TABLE), run the sync, and "
        "add it again.",
    }.get(dependents[0].kind, otherwise)
    return SchemaChangeRefused(
        f"{table.label}: {names} in the target depends on {what}, which must be changed: "
        f"{as_text(operation.statement(table.target_name))}. Nothing was changed. {way_out}"
    )


def _require_own_columns(table: TableConfig, shape: Shape, operations: Sequence[ColumnOperation]) -> None:
    """Refuse to change columns that the target has from another table, or that its rows are divided by."""
    inherited, partition_key = {*(shape.inherited or ())}, {*(shape.partition_key or ())}
    identity = {*(shape.replica_identity or ())}
    for operation in operations:
        (name,) = names_before((operation.name,), operations)
        if isinstance(operation, DropColumn):
            name = operation.name
        adds = isinstance(operation, AddColumn)
        what = f"{as_text(operation.statement(table.target_name))}. Nothing was changed."
        if shape.is_typed and not isinstance(operation, DropNotNull):
            raise SchemaChangeRefused(
                f"{table.label}: the target {table.target_name} is a table of a composite type, whose columns cannot "
                f"be changed: {what} Run ALTER TABLE ... NOT OF there."
            )
        # A default is the table's own.
        is_inherited = name in inherited and not isinstance(operation, (AddColumn, DropDefault))
        if (adds and shape.is_partition) or is_inherited:
            raise SchemaChangeRefused(
                f"{table.label}: the target {table.target_name} has its columns from a table that it inherits from or "
                f"is a partition of, which must be changed instead: {what} Name that table as the target, or change it."
            )
        if operation.altered_column and name in partition_key:
            raise SchemaChangeRefused(
                f"{table.label}: the target {table.target_name} is partitioned by the column {name}, which cannot be "
                f"changed: {what} Create the table anew under another name, and copy into that."
            )
        if isinstance(operation, DropNotNull) and name in identity:
            raise SchemaChangeRefused(
                f"{table.label}: the target's column {name} is in the index that is its replica identity, and may not "
                f"be NULL: {what} Run ALTER TABLE ... REPLICA IDENTITY DEFAULT, or FULL, there."
            )
