"""The first station: what is to be read, and why. It copies nothing."""

from __future__ import annotations

import time
from dataclasses import replace

from xmin_assets.config import TableConfig
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.postgres.server import flushed_lsn, observe_server, require_identity, require_version
from xmin_assets.postgres.transaction import TransactionMode, transaction, transaction_on
from xmin_assets.postgres.types import UserType
from xmin_assets.replication.changed_blocks.block_map import unreadable_wal
from xmin_assets.replication.manifests.plan import FlushedSnapshot, SourceSnapshot
from xmin_assets.replication.planning.decision import Facts, decide
from xmin_assets.replication.planning.held_back import observe_held_back
from xmin_assets.replication.planning.load_plan import may_be_chunked, plan_load
from xmin_assets.replication.planning.observation import (
    MIN_SOURCE,
    observe_target,
    read_source,
    require_same_start,
)
from xmin_assets.replication.planning.resume_point import caught_up
from xmin_assets.replication.planning.same_table import require_another_table
from xmin_assets.replication.planning.wal_proof import with_proof
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback, ignore_progress
from xmin_assets.replication.scan.where_clause import try_out
from xmin_assets.replication.schema.alteration import require_alterable
from xmin_assets.replication.schema.borrowed_types import observe_borrowed
from xmin_assets.replication.schema.rights import require_room
from xmin_assets.replication.schema.selection import with_proven_key
from xmin_assets.replication.schema.type_changes import plan_types
from xmin_assets.replication.schema.type_making import copied_before
from xmin_assets.replication.schema.type_mapping import (
    TargetTypes,
    map_to_target,
    needs_target_types,
    read_target_types,
)
from xmin_assets.replication.spool.sync_id import new_sync_id
from xmin_assets.replication.state.loads import read_load, read_progress


def snapshot(
    source: Database, target: Database, table: TableConfig, *, on_progress: ProgressCallback = ignore_progress
) -> SourceSnapshot:
    """Look at both sides of a table and decide what its next sync does.

    Raises:
        XminAssetsError: a side cannot be reached, the table cannot be replicated, or the plan is refused; nothing was
            changed anywhere.
    """
    began = time.monotonic()
    action = f"{table.label}: looking at the source"
    # The target's state is read first: whatever merges meanwhile, the source is not seen older than the state.
    with transaction_on(target, TransactionMode.READ, f"{table.label}: looking at the target") as cursor:
        target_server, target_facts, state = observe_target(cursor, table, target)
    with source.connection() as connection:
        with transaction(source, connection, TransactionMode.READ, action) as cursor:
            server = observe_server(cursor)
        require_version(server, str(source), MIN_SOURCE)
        require_identity(server, str(source))
        with transaction(source, connection, TransactionMode.READ_SNAPSHOT, action) as cursor:
            require_same_start(cursor, server, table)
            source_facts, storage = read_source(cursor, server, table)
            try_out(cursor, table, source_facts.selection.terms)
            source_facts = with_proof(cursor, source_facts, storage, state)
            held_back = observe_held_back(cursor)
            on_disk = None if server.in_recovery else flushed_lsn(cursor, server.lsn)
            if state:
                state = caught_up(state, server, lambda lsn: flushed_lsn(cursor, lsn) is not None)
    require_another_table(
        table,
        (source, server, source_facts.identity.relation_oid),
        (target, target_server, target_facts.oid),
        state,
    )
    target_types = TargetTypes()
    if needs_target_types(source_facts.selection):
        with transaction_on(target, TransactionMode.READ, f"{table.label}: looking at the target's types") as cursor:
            target_types = read_target_types(cursor, source_facts.selection, source_facts.identity, table.target_name)
    types = plan_types(
        table.label,
        source_facts.selection,
        target_types,
        allowed=table.schema_changes == "apply",
        copied=copied_before(state, source_facts.identity),
    )
    known = state if state and state.identity.is_same_relation_as(source_facts.identity) else None
    former = {column.attnum: column.name for column in known.selection.columns} if known else {}
    selection = with_proven_key(map_to_target(source_facts.selection, target_types), target_facts.columns, former)
    facts = Facts(
        table=table,
        source=source_facts,
        selection=selection,
        target=replace(target_facts, types=types.maps),
        state=state,
        storage=storage,
        type_statements=tuple(map(as_text, types.statements)),
    )
    facts = replace(facts, target=replace(facts.target, borrowed=_borrowed(target, facts)))
    plan = decide(facts)
    if state is None or plan.create_target:
        mode = TransactionMode.WRITE if types.statements else TransactionMode.READ
        with transaction_on(target, mode, f"{table.label}: looking at the role's rights") as cursor:
            require_room(cursor, table, plan, types.statements)
    alterable = require_alterable(target, table, facts.target, selection.key, plan, types.statements)
    if alterable.refilled:
        facts = replace(facts, refilled=alterable.refilled)
        plan = decide(facts)
        require_alterable(target, table, facts.target, selection.key, plan, types.statements)
    if plan.map_from is not None:
        unreadable = unreadable_wal(source, server, table, storage, plan.map_from)
        plan = decide(replace(facts, unreadable_wal=unreadable))
    plan = replace(plan, dropped_along=alterable.dropped_along)
    load = None
    if may_be_chunked(table, source_facts.identity.kind, selection, plan, storage):
        with transaction_on(target, TransactionMode.READ, f"{table.label}: looking at the target") as cursor:
            begun = read_load(cursor, table.target_name)
            load = plan_load(table, storage, (begun, read_progress(cursor, begun)) if begun else None)
    result = SourceSnapshot(
        sync_id=new_sync_id(table.target_name, (target_server.system_identifier, target_server.database_oid)),
        table=table.label,
        config=table,
        identity=source_facts.identity,
        source_selection=source_facts.selection,
        target_selection=selection,
        horizon=source_facts.horizon,
        rows_estimate=sum(leaf.rows_estimate for leaf in storage),
        bytes=sum(leaf.all_bytes for leaf in storage),
        encodings_differ=server.encoding != target_server.encoding,
        target=(target_server.system_identifier, target_server.database_oid),
        target_oid=target_facts.oid,
        held_back=held_back,
        oldest_age=server.oldest_age,
        state=state,
        plan=plan,
        seconds=time.monotonic() - began,
        flushed=None if on_disk is None else FlushedSnapshot(server.snapshot, server.started, on_disk),
        target_types=target_types.with_parts(source_facts.selection),
        borrowed=facts.target.borrowed,
        comments=source_facts.comments,
        load=load,
    )
    on_progress(Progress(table.label, "snapshot", 0, result.rows_estimate, f"{plan.mode.value}: {plan.reason}"))
    return result


def _borrowed(target: Database, facts: Facts) -> tuple[UserType, ...]:
    known = facts.known
    is_same = known is not None and known.identity.is_same_relation_as(facts.source.identity)
    before = known.selection if known and is_same else None
    return observe_borrowed(target, facts.table, before, facts.selection, facts.target.columns)
