"""Trying out what is planned for the target's columns and key, on an empty table of the same kind.

So whatever PostgreSQL itself has against a change is known before rows are read for it: an index that has no operator
class for the new type, a default or a check that does not convert, statistics, a column that is computed from another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import errorcodes, sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.dependents import columns_of_rows
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.foreign_keys import foreign_keys_of, imitate
from xmin_assets.postgres.identifiers import QualifiedName, as_text
from xmin_assets.replication.manifests.operations import Operation
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.schema.refusals import advice_for

_TWIN = QualifiedName("pg_temp", "xmin_assets_twin")

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
    cursor.execute(
        sql.SQL("CREATE TEMPORARY TABLE xmin_assets_twin (LIKE {} INCLUDING ALL)").format(table.target_name.sql)
    )
    names = _with_foreign_keys(cursor, oid, plan) | _with_rows_elsewhere(cursor, oid)
    names[_TWIN.name] = table.target_name.name
    for operation in _in_order(cursor, plan):
        _try(cursor, table, operation, plan, names)


def _with_foreign_keys(cursor: ext.cursor, oid: int, plan: Plan) -> dict[str, str]:
    """Give the twin the target's foreign keys, where their columns change; return what each is called there."""
    if not any(operation.altered_column for operation in plan.column_operations):
        return {}
    keys = {f"xmin_assets_foreign_key_{number}": key for number, key in enumerate(foreign_keys_of(cursor, oid), 1)}
    return {f'"{name}"': key.name for name, key in keys.items() if imitate(cursor, key, _TWIN.sql, name)}


def _with_rows_elsewhere(cursor: ext.cursor, oid: int) -> dict[str, str]:
    """Make a column of the twin's rows where there are columns of the target's; return what it stands for."""
    if not (columns := columns_of_rows(cursor, oid)):
        return {}
    cursor.execute(sql.SQL("CREATE TEMPORARY TABLE xmin_assets_elsewhere (rows {})").format(_TWIN.sql))
    return {"xmin_assets_elsewhere.rows": ", ".join(columns)}


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


def _try(cursor: ext.cursor, table: TableConfig, operation: Operation, plan: Plan, names: Mapping[str, str]) -> None:
    try:
        cursor.execute(operation.statement(_TWIN))
    except psycopg2.Error as error:
        if error.pgcode is None or error.pgcode[:2] not in _REFUSALS:
            raise
        said = one_line(error)
        # The twin's names mean nothing to anybody.
        for name, meant in names.items():
            said = said.replace(name, meant)
        shown = as_text(operation.statement(table.target_name))
        raise SchemaChangeRefused(
            f"{table.label}: the target refuses {shown}: {said} Nothing was changed. "
            f"{advice_for(error, table, operation, plan.column_operations)}"
        ) from error
