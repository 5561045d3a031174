"""The first station: what is to be read, and why. It copies nothing."""

from __future__ import annotations

import time

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import SOURCE_DELETED_AT, SOURCE_XMIN, TableConfig, nearest
from xmin_assets.errors import ConfigError, PlanOutdated, TableNotFound, UnsupportedTable
from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.server import Server, horizon, observe_server, require_version
from xmin_assets.postgres.transaction import Isolation, statement, transact, transaction
from xmin_assets.replication.held_back import observe_held_back
from xmin_assets.replication.manifest import Column, Identity, Leaf, Selection, SourceSnapshot, State, new_sync_id
from xmin_assets.replication.plan import SourceFacts, TargetFacts, decide
from xmin_assets.replication.progress import Progress, Report, silent
from xmin_assets.replication.state import read_state

MIN_SOURCE, MIN_TARGET = 14, 15

_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
}


def snapshot(source: Database, target: Database, table: TableConfig, *, report: Report = silent) -> SourceSnapshot:
    """Look at both sides of a table and decide what its next sync does.

    Raises:
        XminAssetsError: a side cannot be reached, the table cannot be replicated, or the plan is refused; nothing was
            changed anywhere.
    """
    began = time.monotonic()
    doing = f"{table.label}: looking at the source"
    # The target's state is read first: whatever merges meanwhile, the source is not seen older than the state.
    with transact(target, Isolation.READ, f"{table.label}: looking at the target") as cursor:
        here, target_facts, state = _read_target(cursor, table, target)
    with source.connection() as connection:
        with statement(source, connection, doing) as cursor:
            server = observe_server(cursor)
        require_version(server, str(source), MIN_SOURCE)
        with transaction(source, connection, Isolation.READ_SNAPSHOT, doing) as cursor:
            facts, storage = read_source(cursor, server, table)
            held_back = observe_held_back(cursor)
    if (here.system_identifier, here.database_oid, target_facts.oid) == (
        facts.identity.system_identifier,
        facts.identity.database_oid,
        facts.identity.relation_oid,
    ):
        raise ConfigError(f"{table.label}: source and target are the same table. Name another target.")
    plan = decide(table, facts, target_facts, state)
    result = SourceSnapshot(
        sync_id=new_sync_id(),
        table=table.label,
        config=table,
        identity=facts.identity,
        selection=facts.selection,
        horizon=facts.horizon,
        rows_estimate=sum(leaf.rows_estimate for leaf in storage),
        bytes=sum(leaf.all_bytes for leaf in storage),
        target=(here.system_identifier, here.database_oid),
        target_oid=target_facts.oid,
        held_back=held_back,
        state=state,
        plan=plan,
        seconds=time.monotonic() - began,
    )
    report(Progress(table.label, "snapshot", 0, result.rows_estimate, f"{plan.mode.value}: {plan.reason}"))
    return result


def read_source(
    cursor: ext.cursor, server: Server, table: TableConfig
) -> tuple[SourceFacts, tuple[catalog.Storage, ...]]:
    """The source table's facts, as of the snapshot of the cursor's transaction.

    Args:
        cursor: in a REPEATABLE READ transaction.
        server: observed before that transaction took its snapshot.
        table: the table's configuration.

    Raises:
        TableNotFound: there is no such table.
        UnsupportedTable: it is of a kind that cannot be replicated, or lacks a key.
        ConfigError: the configuration names columns that the table does not have.
        PlanOutdated: the table was truncated or rewritten while its facts were read.
    """
    relation = catalog.find_relation(cursor, table.source_name)
    if relation is None:
        raise TableNotFound(
            f"{table.label}: there is no such table in the database {server.database}, or the role has no USAGE on its "
            f"schema.{nearest(table.label, catalog.relation_names(cursor))}"
        )
    if relation.kind not in ("r", "p"):
        raise UnsupportedTable(f"{table.label} is {_KINDS.get(relation.kind, 'no table')}; only tables are replicated.")
    storage = catalog.storage_of(cursor, relation.oid)
    for leaf in storage:
        if leaf.kind != "r":
            raise UnsupportedTable(f"{table.label}: its partition {leaf.name} is a foreign table, which has no xmin.")
        if leaf.rewritten:
            raise PlanOutdated(f"{table.label} was truncated or rewritten just now; run the sync again.")
    identity = Identity(
        system_identifier=server.system_identifier,
        timeline=server.timeline,
        database_oid=server.database_oid,
        relation_oid=relation.oid,
        leaves=tuple(Leaf(leaf.oid, leaf.relfilenode, leaf.name.schema, leaf.name.name) for leaf in storage),
    )
    attributes = catalog.columns_of(cursor, relation.oid)
    selection = _select(table, attributes, catalog.keys_of(cursor, relation.oid))
    return SourceFacts(server, identity, selection, horizon(cursor)), storage


def _select(
    table: TableConfig, attributes: tuple[catalog.Attribute, ...], keys: tuple[tuple[str, ...], ...]
) -> Selection:
    names = [attribute.name for attribute in attributes]
    for wanted in (*(table.columns or ()), *table.exclude_columns, *(table.key or ())):
        if wanted not in names:
            raise ConfigError(f"{table.label} has no column {wanted}.{nearest(wanted, names)}")
    key = table.key or next(iter(keys), None)
    if key is None:
        raise UnsupportedTable(
            f"{table.label} has no primary key and no unique index over NOT NULL columns. Name columns that identify "
            "a row: key: [a, b]."
        )
    chosen = [a for a in attributes if a.name in (table.columns or names) and a.name not in table.exclude_columns]
    missing = [name for name in key if name not in {a.name for a in chosen}]
    if missing:
        raise ConfigError(f"{table.label}: the key column {missing[0]} must be among the columns that are copied.")
    for own in (SOURCE_XMIN, SOURCE_DELETED_AT):
        if own in {a.name for a in chosen}:
            raise UnsupportedTable(
                f"{table.label} has a column {own} of its own, a name that the target needs. Leave it out with "
                f"exclude_columns: [{own}]."
            )
    return Selection(
        columns=tuple(Column(a.attnum, a.name, a.type, a.virtual) for a in chosen),
        key=tuple(key),
        where=table.where,
        deletes=table.deletes,
    )


def _read_target(
    cursor: ext.cursor, table: TableConfig, database: Database
) -> tuple[Server, TargetFacts, State | None]:
    server = observe_server(cursor)
    require_version(server, str(database), MIN_TARGET)
    if server.in_recovery:
        raise UnsupportedTable(f"The {database} is a standby and cannot be written to. Name its primary.")
    state = read_state(cursor, table.target_name)
    return server, read_target(cursor, table), state


def read_target(cursor: ext.cursor, table: TableConfig) -> TargetFacts:
    """The target table's facts.

    Raises:
        UnsupportedTable: something else than a table has the target's name.
    """
    relation = catalog.find_relation(cursor, table.target_name)
    if relation is None:
        return TargetFacts(None)
    if relation.kind not in ("r", "p"):
        raise UnsupportedTable(
            f"{table.label}: the target {table.target_name} is {_KINDS.get(relation.kind, 'no table')}. "
            "Name another one."
        )
    if relation.persistence == "u":
        raise UnsupportedTable(
            f"{table.label}: the target {table.target_name} is UNLOGGED: a crash of the server would empty it. "
            f"Run ALTER TABLE {table.target_name} SET LOGGED."
        )
    cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(relation.name.sql))
    (has_rows,) = cursor.fetchone() or (False,)
    return TargetFacts(relation.oid, catalog.columns_of(cursor, relation.oid), has_rows)
