"""The source and the target table, looked at under one snapshot each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig, Triggers, nearest
from xmin_assets.errors import PlanOutdated, TableNotFound, UnsupportedTable
from xmin_assets.postgres import catalog, user_triggers
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.postgres.server import Server, horizon, observe_server, observe_target_server, require_version, started
from xmin_assets.postgres.transaction import TransactionMode, transaction
from xmin_assets.replication.manifests.facts import SourceFacts, TargetFacts
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Comments, Identity, Leaf
from xmin_assets.replication.planning.write_probe import require_writable
from xmin_assets.replication.scan.conditions import read_lock
from xmin_assets.replication.scan.where_clause import mark_unlike_leaves
from xmin_assets.replication.schema.keys import target_keys_of
from xmin_assets.replication.schema.selection import KINDS, VIEWS, select
from xmin_assets.replication.state.table_state import read_state

MIN_SOURCE, MIN_TARGET = 14, 15


@contextmanager
def locked_source(
    source: Database, connection: ext.connection, table: TableConfig, kind: str, action: str
) -> Iterator[tuple[ext.cursor, SourceFacts, tuple[catalog.Storage, ...]]]:
    """Open a snapshot of the source table that nobody can empty or rewrite meanwhile, and read its facts.

    Args:
        source: the source database.
        connection: of it, with no transaction open.
        table: the table's configuration.
        kind: pg_class.relkind of the table, as it was last seen.
        action: the beginning of an error's sentence.

    Raises:
        XminAssetsError: see `read_source`; or the source failed.
    """
    with transaction(source, connection, TransactionMode.READ, action) as cursor:
        server = observe_server(cursor)
    # TRUNCATE and rewriting ALTER TABLE are not MVCC-safe: under a snapshot older than they are, the table is empty.
    # The lock comes before the snapshot, so either they are over or they wait for us
    # (https://www.postgresql.org/docs/current/mvcc-caveats.html).
    lock = read_lock(table.source_name, kind)
    with transaction(source, connection, TransactionMode.READ_SNAPSHOT, action, lock) as cursor:
        require_same_start(cursor, server, table)
        facts, storage = read_source(cursor, server, table)
        if len(storage) > 1:
            # A partition attached between the lock and the snapshot is not locked yet, and may be truncated.
            cursor.execute(lock)
            facts, storage = read_source(cursor, server, table)
        yield cursor, facts, storage


def require_same_start(cursor: ext.cursor, server: Server, table: TableConfig) -> None:
    """Make sure that the snapshot is of the server that was observed before, and that this has not crashed since.

    A pooler may keep our connection while the server behind it recovers, or another standby takes its place.

    Raises:
        PlanOutdated: it is another one.
    """
    if started(cursor) != server.started:
        raise PlanOutdated(f"{table.label}: the source server was restarted just now; run the sync again.")


def read_source(
    cursor: ext.cursor, server: Server, table: TableConfig
) -> tuple[SourceFacts, tuple[catalog.Storage, ...]]:
    """Return the source table's facts, as of the snapshot of the cursor's transaction.

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
    if relation.kind not in ("r", "p", *VIEWS):
        raise UnsupportedTable(
            f"{table.label} is {KINDS.get(relation.kind, 'no table')}; only tables and views are replicated."
        )
    if relation.extension and relation.kind not in VIEWS:
        raise UnsupportedTable(
            f"{table.label} belongs to the extension {relation.extension}, which brings its own rows wherever it is "
            f"installed. Create the extension in the target and leave the table out, or copy a view of it, with mode: "
            "full_sync."
        )
    storage = () if relation.kind in VIEWS else catalog.storage_of(cursor, relation.oid)
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
        leaves=tuple(
            Leaf(leaf.oid, leaf.relfilenode, leaf.name.schema, leaf.name.name, leaf.attnums) for leaf in storage
        ),
        kind=relation.kind,
        definition=hashlib.sha256(relation.definition.encode()).hexdigest()[:16] if relation.definition else "",
        database=server.database,
        last_attnum=relation.last_attnum,
    )
    selection = select(cursor, table, relation, has_heirs=relation.kind == "r" and len(storage) > 1)
    storage = mark_unlike_leaves(cursor, table, relation.oid, selection, storage)
    filled = frozenset(name for leaf in storage for name in leaf.filled)
    said = relation.comments or {}
    columns = tuple(
        (column.name, said[number]) for column in selection.columns if (number := str(column.attnum)) in said
    )
    comments = Comments(said.get("0"), columns)
    return SourceFacts(server, identity, selection, horizon(cursor), filled, comments), storage


def observe_target(
    cursor: ext.cursor, table: TableConfig, database: Database
) -> tuple[Server, TargetFacts, State | None]:
    """Return the facts of the target server and table, and the state that the last merged sync has left.

    Raises:
        UnsupportedServer: the server is too old.
        UnsupportedTable: it is a standby, or something else than a table has the target's name.
    """
    server = observe_target_server(cursor)
    require_version(server, str(database), MIN_TARGET)
    if server.in_recovery:
        raise UnsupportedTable(f"The {database} is a standby and cannot be written to. Name its primary.")
    state = read_state(cursor, table.target_name)
    return server, _read_target(cursor, table, state), state


def _read_target(cursor: ext.cursor, table: TableConfig, state: State | None) -> TargetFacts:
    relation = catalog.find_relation(cursor, table.target_name)
    if relation is None:
        return TargetFacts(None)
    if relation.kind not in ("r", "p"):
        raise UnsupportedTable(
            f"{table.label}: the target {table.target_name} is {KINDS.get(relation.kind, 'no table')}. "
            "Name another one."
        )
    parts = catalog.storage_of(cursor, relation.oid) if relation.kind == "p" else ()
    if relation.persistence == "u" or any(leaf.unlogged for leaf in parts):
        raise UnsupportedTable(
            f"{table.label}: the target {table.target_name} is UNLOGGED, or a partition of it: a crash of the server "
            "would empty it. Run ALTER TABLE ... SET LOGGED."
        )
    skipped = table.triggers is Triggers.SKIP
    if skipped and not user_triggers.may_skip(cursor):
        raise UnsupportedTable(
            f"{table.label}: triggers: skip needs the right to set session_replication_role in the target. Run there, "
            "as a superuser: GRANT SET ON PARAMETER session_replication_role TO the role; or set triggers: fire."
        )
    has_triggers = relation.has_triggers or relation.kind == "p"
    columns = catalog.columns_of(cursor, relation.oid)
    require_writable(cursor, table, columns, state)
    return TargetFacts(
        oid=relation.oid,
        columns=columns,
        # What a sync has left may have rows; of any other table nobody may lose them.
        has_rows=(state is None or state.target_oid != relation.oid) and _has_rows(cursor, relation.name),
        keys=target_keys_of(cursor, relation.oid),
        code=user_triggers.firing(cursor, relation.oid, skipped=skipped) if has_triggers else (),
        now=datetime.now(timezone.utc),
    )


def _has_rows(cursor: ext.cursor, table: QualifiedName) -> bool:
    cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {table}) AS has_rows").format(table=table.sql))
    return fetch_value(cursor, bool)
