"""Whether the role may make and alter what a plan makes and alters in the target, before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import UnsupportedTable
from xmin_assets.postgres.dependents import FAMILY
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.postgres.rows import fetch_as, fetch_one_as
from xmin_assets.replication.manifests.operations import AddColumn
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.schema.type_making import make_type
from xmin_assets.replication.state.migrations import SCHEMA, lock_schemas

# ALTER TABLE wants each partition and heir to be one's own, too.
_NOT_OWNED = f"""
WITH RECURSIVE {FAMILY}
SELECT c.oid::regclass::text AS table, pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)) AS owner
  FROM tree t
  JOIN pg_catalog.pg_class c ON c.oid = t.oid
 WHERE NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
 ORDER BY c.oid
"""

_ROOM = """
SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create_schema,
       pg_catalog.quote_ident(current_user) AS role,
       n.oid IS NOT NULL AS exists,
       pg_catalog.has_schema_privilege(n.oid, 'CREATE')
           AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS may_create
  FROM (SELECT %(schema)s::text AS name) AS s
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = s.name
"""


@dataclass(frozen=True)
class _NotOwned:
    """A table that belongs to another role."""

    table: str
    owner: str


@dataclass(frozen=True)
class _Room:
    """What the role may make in a schema."""

    may_create_schema: bool
    role: str
    exists: bool
    may_create: bool | None
    """None where there is no such schema."""


def require_ownership(cursor: ext.cursor, table: TableConfig, oid: int, plan: Plan) -> None:
    """Make sure that the role may alter the target table.

    Args:
        cursor: in a transaction at the target.
        table: the table's configuration.
        oid: of the target table.
        plan: what is to be done to it; something is.

    Raises:
        UnsupportedTable: it belongs to somebody else, or a partition of it does; or the role may make no index.
    """
    cursor.execute(_NOT_OWNED, {"table": oid})
    if found := fetch_as(cursor, _NotOwned):
        role = _room(cursor, table.target_name.schema).role
        tables = ", ".join(f"{other.table} belongs to {other.owner}" for other in found)
        way_out = "; ".join(f"ALTER TABLE {other.table} OWNER TO {role}" for other in found)
        raise UnsupportedTable(
            f"{table.label}: only the owner of a table may alter it, and in the target {tables}: "
            f"{_first(table, plan)}. Nothing was changed. Run there, as a role that may: {way_out}"
        )
    if plan.add_key:
        made = f"the index of {as_text(plan.add_key.statement(table.target_name))}"
        _require_room(cursor, table, table.target_name.schema, made)
    if any(
        isinstance(operation, AddColumn) and operation.name == table.block_column
        for operation in plan.column_operations
    ):
        _require_room(cursor, table, table.target_name.schema, f"the index of {table.block_column}")


def _first(table: TableConfig, plan: Plan) -> str:
    operation = next(operation for operation in (plan.drop_key, *plan.column_operations, plan.add_key) if operation)
    return as_text(operation.statement(table.target_name))


def require_room(
    cursor: ext.cursor, table: TableConfig, plan: Plan, type_statements: Sequence[sql.Composed] = ()
) -> None:
    """Make sure that the role may make what a first sync makes.

    Args:
        cursor: in a transaction at the target.
        table: the table's configuration.
        plan: the first one of the table.
        type_statements: what the sync will do to types before, which is done and undone here.

    Raises:
        UnsupportedTable: it may not.
    """
    if type_statements:
        _require_types(cursor, table, type_statements)
    _require_room(cursor, table, SCHEMA, "the tables of the state")
    if plan.create_target:
        _require_room(cursor, table, table.target_name.schema, f"the table {table.target_name}")


def _require_types(cursor: ext.cursor, table: TableConfig, statements: Sequence[sql.Composed]) -> None:
    lock_schemas(cursor)
    cursor.execute("SAVEPOINT types")
    try:
        for statement in statements:
            make_type(cursor, table.label, statement)
    except UnsupportedTable as error:
        # Another sync may have made one just now; whatever else there is, the staging looks again.
        if isinstance(error.__cause__, psycopg2.errors.InsufficientPrivilege):
            raise
    cursor.execute("ROLLBACK TO SAVEPOINT types")


def _require_room(cursor: ext.cursor, table: TableConfig, schema: str, what: str) -> None:
    room = _room(cursor, schema)
    if room.may_create or (not room.exists and room.may_create_schema):
        return
    name = as_text(sql.Identifier(schema))
    if room.exists:
        way_out = f"GRANT USAGE, CREATE ON SCHEMA {name} TO {room.role}"
    else:
        way_out = f"CREATE SCHEMA {name} AUTHORIZATION {room.role}"
    raise UnsupportedTable(
        f"{table.label}: the role {room.role} may not make anything in the schema {schema} of the target, where a sync "
        f"makes {what}. Nothing was read. Run there: {way_out}"
    )


def _room(cursor: ext.cursor, schema: str) -> _Room:
    cursor.execute(_ROOM, {"schema": schema})
    return fetch_one_as(cursor, _Room)
