"""The first station: what is to be read, and why. It copies nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig, nearest
from xmin_assets.errors import ConfigError, PlanOutdated, TableNotFound, UnsupportedTable
from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.postgres.server import Server, flushed_lsn, horizon, observe_server, require_version, started
from xmin_assets.postgres.transaction import Isolation, transact, transaction
from xmin_assets.replication.changed_blocks import block_map
from xmin_assets.replication.held_back import observe_held_back
from xmin_assets.replication.manifests.plan import Settled, SourceSnapshot
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Identity, Leaf
from xmin_assets.replication.plan import SourceFacts, TargetFacts, decide, same_relation
from xmin_assets.replication.resume_point import caught_up
from xmin_assets.replication.runtime.progress import Progress, Report, silent
from xmin_assets.replication.scan.conditions import read_lock
from xmin_assets.replication.scan.where_clause import apart, try_out
from xmin_assets.replication.schema.alteration import require_alterable
from xmin_assets.replication.schema.borrowed_types import observe_borrowed
from xmin_assets.replication.schema.selection import KINDS, VIEWS, as_told_apart, select
from xmin_assets.replication.schema.type_changes import plan_types
from xmin_assets.replication.schema.type_making import copied_before
from xmin_assets.replication.schema.type_mapping import Ground, land, needs_ground, observe
from xmin_assets.replication.spool.sync_id import new_sync_id
from xmin_assets.replication.state.table_state import read_state

MIN_SOURCE, MIN_TARGET = 14, 15


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
        with transaction(source, connection, Isolation.READ, doing) as cursor:
            server = observe_server(cursor)
        require_version(server, str(source), MIN_SOURCE)
        with transaction(source, connection, Isolation.READ_SNAPSHOT, doing) as cursor:
            require_same_start(cursor, server, table)
            facts, storage = read_source(cursor, server, table)
            try_out(cursor, table, facts.selection.terms)
            held_back = observe_held_back(cursor)
            on_disk = flushed_lsn(cursor, server.lsn) is not None and not server.in_recovery
            if state:
                state = caught_up(state, server, lambda lsn: flushed_lsn(cursor, lsn) is not None)
    if (here.system_identifier, here.database_oid, target_facts.oid) == (
        facts.identity.system_identifier,
        facts.identity.database_oid,
        facts.identity.relation_oid,
    ):
        raise ConfigError(f"{table.label}: source and target are the same table. Name another target.")
    ground = Ground()
    if needs_ground(facts.selection):
        with transact(target, Isolation.READ, f"{table.label}: looking at the target's types") as cursor:
            ground = observe(cursor, facts.selection, facts.identity, table.target_name)
    types = plan_types(
        table.label,
        facts.selection,
        ground,
        allowed=table.schema_changes == "apply",
        copied=copied_before(state, facts.identity),
    )
    target_facts = replace(target_facts, types=types.maps)
    landed = replace(facts, selection=as_told_apart(land(facts.selection, ground), target_facts.columns))
    known = state if state and state.target_oid == target_facts.oid else None
    before = known.selection if known and same_relation(known.identity, facts.identity) else None
    borrowed = observe_borrowed(target, table, before, landed.selection, target_facts.columns)
    target_facts = replace(target_facts, borrowed=borrowed)
    plan = decide(table, landed, target_facts, state)
    plan = block_map.choose(source, server, table, storage, plan, state, unique_key=landed.selection.unique_key)
    keys = require_alterable(target, table, landed, target_facts, state)
    result = SourceSnapshot(
        sync_id=new_sync_id(table.target_name, (here.system_identifier, here.database_oid)),
        table=table.label,
        config=table,
        identity=facts.identity,
        read=facts.selection,
        selection=landed.selection,
        horizon=facts.horizon,
        rows_estimate=sum(leaf.rows_estimate for leaf in storage),
        bytes=sum(leaf.all_bytes for leaf in storage),
        portable=server.encoding != here.encoding,
        target=(here.system_identifier, here.database_oid),
        target_oid=target_facts.oid,
        held_back=held_back,
        oldest_age=server.oldest_age,
        state=state,
        plan=replace(plan, statements=(*map(as_text, types.statements), *plan.statements, *map(as_text, keys))),
        seconds=time.monotonic() - began,
        settled=Settled(server.snapshot, server.started, server.lsn) if on_disk else None,
        target_types=ground.with_parts(facts.selection),
        borrowed=target_facts.borrowed,
    )
    report(Progress(table.label, "snapshot", 0, result.rows_estimate, f"{plan.mode.value}: {plan.reason}"))
    return result


@contextmanager
def locked_source(
    source: Database, connection: ext.connection, table: TableConfig, kind: str, doing: str
) -> Iterator[tuple[ext.cursor, SourceFacts, tuple[catalog.Storage, ...]]]:
    """A transaction whose snapshot nobody can pull the table from under, and the table's facts in it.

    Args:
        source: the source database.
        connection: of it, with no transaction open.
        table: the table's configuration.
        kind: pg_class.relkind of the table, as it was last seen.
        doing: the beginning of an error's sentence.

    Raises:
        XminAssetsError: see `read_source`; or the source failed.
    """
    with transaction(source, connection, Isolation.READ, doing) as cursor:
        server = observe_server(cursor)
    # TRUNCATE and rewriting ALTER TABLE are not MVCC-safe: under a snapshot older than they are, the table is empty.
    # The lock comes before the snapshot, so either they are over or they wait for us
    # (https://www.postgresql.org/docs/current/mvcc-caveats.html).
    lock = read_lock(table.source_name, kind)
    with transaction(source, connection, Isolation.READ_SNAPSHOT, doing, lock) as cursor:
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
        raise PlanOutdated(f"{table.label}: the source server was started anew just now; run the sync again.")


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
    if relation.kind not in ("r", "p", *VIEWS):
        raise UnsupportedTable(
            f"{table.label} is {KINDS.get(relation.kind, 'no table')}; only tables and views are replicated."
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
    )
    selection = select(cursor, table, relation, has_heirs=relation.kind == "r" and len(storage) > 1)
    storage = apart(cursor, table, relation.oid, selection, storage)
    return SourceFacts(server, identity, selection, horizon(cursor)), storage


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
            f"{table.label}: the target {table.target_name} is {KINDS.get(relation.kind, 'no table')}. "
            "Name another one."
        )
    parts = catalog.storage_of(cursor, relation.oid) if relation.kind == "p" else ()
    if relation.persistence == "u" or any(leaf.unlogged for leaf in parts):
        raise UnsupportedTable(
            f"{table.label}: the target {table.target_name} is UNLOGGED, or a partition of it: a crash of the server "
            "would empty it. Run ALTER TABLE ... SET LOGGED."
        )
    cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(relation.name.sql))
    (has_rows,) = cursor.fetchone() or (False,)
    columns = catalog.columns_of(cursor, relation.oid)
    return TargetFacts(relation.oid, columns, has_rows, datetime.now(timezone.utc))
