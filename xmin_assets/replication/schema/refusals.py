"""What a person can do where the server refuses a change of the target's columns or key."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2
from psycopg2 import errorcodes

from xmin_assets.config import TableConfig
from xmin_assets.replication.manifests.operations import CHANGE_IT, Operation, names_before

_CONVERSION = (errorcodes.DATATYPE_MISMATCH, errorcodes.CANNOT_COERCE)
_THEN_AGAIN = "drop it, run the sync, and create it again."

# By the function of PostgreSQL that has refused, which is the same in every language, and tells apart what one code
# stands for (most are in src/backend/commands).
_ADVICE = {
    "ATExecAlterColumnType": "Run ALTER TABLE {target} ALTER COLUMN {column} DROP DEFAULT there, and run the sync "
    "again.",
    "init_params": "Run ALTER TABLE {target} ALTER COLUMN {column} DROP IDENTITY there, and run the sync again.",
    "ATAddForeignKeyConstraint": "Drop the foreign key, run the sync, and create it again once the columns of both "
    "sides have types that fit.",
    "find_composite_type_dependencies": "Drop the column, or the materialized view, run the sync, and create it again.",
    "DefineIndex": "Name the columns that it is partitioned by in key:, too, if they are copied; or create the table "
    "anew under another name, without partitions, and copy into that.",
    "ATPrepAlterColumnType": "Create the table anew under another name, and copy into that.",
    "ResolveOpClass": f"Where an index of yours has the column {{column}}, {_THEN_AGAIN}",
    "ParseFuncOrColumn": f"Where a check, an index or a default of yours uses the column {{column}}, {_THEN_AGAIN}",
    "op_error": f"Where a check, an index or a default of yours uses the column {{column}}, {_THEN_AGAIN}",
}


def advice_for(
    error: psycopg2.Error, table: TableConfig, operation: Operation, operations: Sequence[Operation] = ()
) -> str:
    """Return what to do about what the server has against an operation.

    Args:
        error: the server's.
        table: the table's configuration.
        operation: what was to be done.
        operations: all that is to be done to the columns; a person finds them as they were before.
    """
    if by_function := _ADVICE.get(error.diag.source_function or ""):
        (column,) = names_before((operation.altered_column or "",), operations)
        return by_function.format(target=table.target_name, column=column)
    if error.pgcode == errorcodes.INSUFFICIENT_PRIVILEGE:
        return "Grant it to the role, and run the sync again."
    if error.pgcode in _CONVERSION or (error.pgcode or "")[:2] == errorcodes.CLASS_DATA_EXCEPTION:
        return operation.advice
    return CHANGE_IT
