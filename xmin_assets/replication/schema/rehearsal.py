"""Trying out what is planned for the target's columns and key, on an empty table of the same kind.

So whatever PostgreSQL itself has against a change is known before rows are read for it: an index that has no operator
class for the new type, a default or a check that does not convert, statistics, a column that is computed from another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import errorcodes

from xmin_assets.config import TableConfig
from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.replication.manifests.operations import Operation
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.schema.refusals import advice_for
from xmin_assets.replication.schema.twins import TWIN, Twins

# Its keys have names of their own.
_KEY = """
SELECT conname::text AS key
  FROM pg_catalog.pg_constraint
 WHERE conrelid = 'pg_temp.xmin_assets_twin'::regclass AND contype = 'p'
"""


def rehearse(cursor: ext.cursor, table: TableConfig, oid: int, plan: Plan) -> None:
    """Make sure that the server does to a table like the target what is planned.

    Args:
        cursor: in a transaction at the target that is rolled back afterwards, to a savepoint or as a whole.
        table: the table's configuration.
        oid: of the target table.
        plan: what is to be done.

    Raises:
        SchemaChangeRefused: the server refuses.
    """
    twins = Twins.make(cursor, oid)
    if any(operation.altered_column for operation in plan.column_operations):
        twins.with_foreign_keys()
    for operation in _in_order(cursor, plan):
        _try(cursor, table, operation, plan, twins)


_REFUSALS = (
    errorcodes.CLASS_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    errorcodes.CLASS_FEATURE_NOT_SUPPORTED,
    errorcodes.CLASS_DEPENDENT_PRIVILEGE_DESCRIPTORS_STILL_EXIST,
    errorcodes.CLASS_DATA_EXCEPTION,
    errorcodes.CLASS_OBJECT_NOT_IN_PREREQUISITE_STATE,
    errorcodes.CLASS_PROGRAM_LIMIT_EXCEEDED,
)


def _in_order(cursor: ext.cursor, plan: Plan) -> Iterator[Operation]:
    if plan.drop_key:
        cursor.execute(_KEY)
        for (name,) in cursor.fetchall():
            yield replace(plan.drop_key, constraint=name)
    yield from (operation for operation in plan.column_operations if not operation.follows_rows)
    yield from (operation for operation in plan.column_operations if operation.follows_rows)
    if plan.add_key:
        yield plan.add_key


def _try(cursor: ext.cursor, table: TableConfig, operation: Operation, plan: Plan, twins: Twins) -> None:
    try:
        cursor.execute(operation.statement(TWIN))
    except psycopg2.Error as error:
        if error.pgcode is None or error.pgcode[:2] not in _REFUSALS:
            raise
        shown = as_text(operation.statement(table.target_name))
        raise SchemaChangeRefused(
            f"{table.label}: the target refuses {shown}: {twins.meaning(one_line(error))} Nothing was changed. "
            f"{advice_for(error, table, operation, plan.column_operations)}"
        ) from error
