"""The decision for one sync: what is read, from where on, and why. Pure: from facts to a plan, no connection.

A plan is put together here and nowhere else. What it lacks, because to find it out costs a look at a server, comes as
one more fact, and the decision is taken again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from xmin_assets.config import Mode, TableConfig, duration
from xmin_assets.errors import ForeignTarget, SchemaChangeRefused, UnsupportedTable
from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.postgres.user_triggers import names_of
from xmin_assets.replication.changed_blocks.prerequisites import BlockMapUnavailable, scan_because
from xmin_assets.replication.changed_blocks.wal_positions import lsn_text
from xmin_assets.replication.manifests.facts import SourceFacts, TargetFacts
from xmin_assets.replication.manifests.operations import (
    AddColumn,
    AddKey,
    ColumnOperation,
    DropColumn,
    DropKey,
    DropNotNull,
    describe,
    names_before,
)
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.planning.block_map_start import block_map_start
from xmin_assets.replication.planning.full_sync_reason import full_sync_reason
from xmin_assets.replication.planning.source_identity import (
    RESTARTED,
    altered_leaves,
    replaced,
    require_caught_up,
    same_id_other_values,
    unproven,
)
from xmin_assets.replication.schema.column_changes import changed_columns
from xmin_assets.replication.schema.key_changes import changed_key
from xmin_assets.replication.schema.table_definition import create_statement

REPACKS = 190000
"""server_version_num from which REPACK (CONCURRENTLY) rewrites tables. Up to here whatever rewrites a table keeps every
row's xmin, or gives all of them its own; of this command that was not tried."""


@dataclass(frozen=True)
class Facts:
    """All that a decision is made from."""

    table: TableConfig
    source: SourceFacts
    selection: Selection
    """What is copied, as the target has it."""
    target: TargetFacts
    state: State | None
    """What the target remembers under the table's name."""
    storage: tuple[Storage, ...] = ()
    """The relations that hold the source table's rows."""
    type_statements: tuple[str, ...] = ()
    """What makes and alters the types of the columns in the target, in SQL."""
    refilled: frozenset[str] = frozenset()
    """Columns whose values PostgreSQL does not convert to their new type, and that are read again."""
    unreadable_wal: str | None = None
    """Why the source's WAL does not tell which blocks changed since where the plan would begin; None where it does, or
    nobody has asked."""

    @property
    def known(self) -> State | None:
        """The state, if it is about the target table that is there."""
        return self.state if self.state and self.target.oid == self.state.target_oid else None


@dataclass(frozen=True)
class _Alterations:
    """What must be done to a target table that exists."""

    columns: tuple[ColumnOperation, ...]
    drop_key: DropKey | None
    add_key: AddKey | None


def decide(facts: Facts) -> Plan:
    """Choose the mode of a sync, with its reason in words, and all that will be done to the target.

    Where the plan has a `map_from`, the source has to be asked whether its WAL names the blocks since then. If it
    does not, that is a fact for another decision (see `Facts.unreadable_wal`).

    Raises:
        ForeignTarget: the target has rows that this project did not put there.
        SchemaChangeRefused: see `changed_columns`.
        SourceBehind: the source is a standby that has not replayed what the target already has.
        UnsupportedTable: rules of the target's users would fire, which MERGE does not do.
    """
    table, source, target, known = facts.table, facts.source, facts.target, facts.known
    if target.oid is not None and known is None and target.has_rows and not table.adopt:
        raise ForeignTarget(
            f"{table.label}: the target table {table.target_name} exists, has rows, and was not made by this project; "
            "it is left as it is. Name another target, or set adopt: true to take it over."
        )
    if facts.selection.key:
        _require_no_rules(table, target)
    require_caught_up(table, source, known)
    alterations = _alterations(facts, known)
    reason = full_sync_reason(
        table=table,
        source=source,
        selection=facts.selection,
        target=target,
        state=facts.state,
        known=known,
        operations=alterations.columns,
    )
    if reason or known is None:
        plan = Plan(
            mode=Mode.FULL_SYNC,
            reason=reason or "first sync",
            compare_values=target.oid is not None,
            create_target=target.oid is None,
            another_source=replaced(table.label, source.identity, known) if known else None,
        )
    elif facts.selection.cursor:
        plan = _by_cursor(table, facts.selection.cursor, known, alterations)
    else:
        plan = _by_xmin(source, facts.selection, known, alterations)
    if known:
        plan = _without_deletes(plan, table, target, known)
    plan = replace(plan, triggers=names_of(target.code), proven_start=source.proven_start)
    return _with_statements(_with_block_map(plan, facts), facts, alterations)


def _require_no_rules(table: TableConfig, target: TargetFacts) -> None:
    """Refuse a target with rules: "MERGE is not supported for relations with rules" (matchLocks() in PostgreSQL)."""
    rules = names_of(code for code in target.code if code.is_rule)
    if rules:
        raise UnsupportedTable(
            f"{table.label}: MERGE does not write to a table with rules, and the target {table.target_name} has "
            f"{', '.join(rules)}. Set triggers: skip, or disable it there (ALTER TABLE ... DISABLE RULE)."
        )


def _alterations(facts: Facts, known: State | None) -> _Alterations:
    if facts.target.oid is None:
        return _Alterations((), None, None)
    columns = changed_columns(
        facts.table, facts.source.identity, facts.selection, facts.target.columns, known, facts.refilled
    )
    former = known.selection.key if known else None
    drop_key, add_key = changed_key(facts.target.keys, former, facts.selection.key, columns)
    if drop_key is None:
        _require_nullable(facts, columns)
    if known and add_key:
        _require_values(facts, columns, add_key)
    return _Alterations(columns, drop_key, add_key)


def _require_nullable(facts: Facts, columns: tuple[ColumnOperation, ...]) -> None:
    """Refuse a target whose own primary key has a column that no sync can fill."""
    primary = facts.target.keys.primary
    if primary is None or any(isinstance(drop, DropColumn) and drop.name in primary.columns for drop in columns):
        return
    for operation in columns:
        if isinstance(operation, DropNotNull):
            (name,) = names_before((operation.name,), columns)
            if name in primary.columns:
                why = "may be NULL at the source now" if operation.is_copied else "is not copied"
                way_out = "" if operation.is_copied else "Give the column a default there, or d"
                raise SchemaChangeRefused(
                    f"{facts.table.label}: the column {name} of the target is in its primary key "
                    f"{primary.constraint}, and {why}. {way_out or 'D'}rop that key."
                )


def _require_values(facts: Facts, columns: tuple[ColumnOperation, ...], key: AddKey) -> None:
    """Refuse a key that rows which the target keeps cannot have."""
    added = {operation.name for operation in columns if isinstance(operation, AddColumn)}
    missing = [name for name in key.columns if name in added]
    if missing and facts.target.oid is not None and not facts.selection.deletes.removes:
        raise SchemaChangeRefused(
            f"{facts.table.label}: the key is now ({', '.join(key.columns)}), and rows that the target keeps, with "
            f"deletes: {facts.selection.deletes.value}, have no {', '.join(missing)}. Sync once with deletes: hard, or "
            "name another target."
        )


def _with_statements(plan: Plan, facts: Facts, alterations: _Alterations) -> Plan:
    """Add what is done to the target, as data for the merge and as SQL for people."""
    target = facts.table.target_name
    if plan.create_target:
        created = as_text(create_statement(target, facts.selection))
        return replace(plan, statements=(*facts.type_statements, created))
    in_order = (
        alterations.drop_key,
        *(operation for operation in alterations.columns if not operation.follows_rows),
        *(operation for operation in alterations.columns if operation.follows_rows),
        alterations.add_key,
    )
    altered = tuple(as_text(operation.statement(target)) for operation in in_order if operation)
    return replace(
        plan,
        column_operations=alterations.columns,
        drop_key=alterations.drop_key,
        add_key=alterations.add_key,
        statements=(*facts.type_statements, *altered),
    )


def _with_block_map(plan: Plan, facts: Facts) -> Plan:
    """Add where the map of changed blocks begins, or why there is none."""
    try:
        start = block_map_start(facts.table, facts.storage, plan, facts.state, unique_key=facts.selection.unique_key)
    except BlockMapUnavailable as unavailable:
        return replace(plan, blocks_read=scan_because(str(unavailable)))
    if facts.unreadable_wal is not None:
        return replace(plan, blocks_read=scan_because(facts.unreadable_wal))
    return replace(plan, map_from=start, blocks_read=f"blocks changed since WAL position {lsn_text(start)}")


def _without_deletes(plan: Plan, table: TableConfig, target: TargetFacts, state: State) -> Plan:
    """Leave out the search for deleted rows if there was one lately enough."""
    # A full sync brings all keys anyway. The checksum is of both sides as wholes, deleted rows included.
    if plan.mode is Mode.FULL_SYNC or plan.checksum or not table.deletes.detects:
        return plan
    interval = table.delete_interval
    if interval is None or target.now is None or state.deletes_compared_at is None:
        return plan
    age = (target.now - state.deletes_compared_at).total_seconds()
    if not 0 <= age < interval:
        return plan
    again = duration(interval - age)
    reason = f"{plan.reason}; deleted rows were looked for {duration(age)} ago, and are again in {again}"
    return replace(plan, find_deletes=False, reason=reason)


def _by_cursor(table: TableConfig, cursor: str, state: State, alterations: _Alterations) -> Plan:
    less = "" if table.cursor_lookback is None else f" less {table.cursor_lookback}"
    reason = [f"rows whose {cursor} is at least {state.cursor}{less}, or NULL"]
    if alterations.columns:
        reason.append(describe(alterations.columns))
    return Plan(
        mode=Mode.INCREMENTAL_SYNC,
        reason="; ".join(reason),
        cursor_from=state.cursor,
        compare_values=True,
    )


def _by_xmin(source: SourceFacts, selection: Selection, state: State, alterations: _Alterations) -> Plan:
    known_leaves = {leaf.oid: leaf for leaf in state.identity.leaves}
    new_leaves = tuple(leaf.oid for leaf in source.identity.leaves if leaf.oid not in known_leaves)
    altered = altered_leaves(state.identity, source)
    rewritten = tuple(
        leaf.oid
        for leaf in source.identity.leaves
        if leaf.oid in known_leaves and leaf.relfilenode != known_leaves[leaf.oid].relfilenode
    )
    is_repack = source.server.version >= REPACKS
    moved = rewritten if selection.block_column or is_repack else ()
    reason = [f"rows changed since transaction {state.watermark}"]
    if new_leaves:
        reason.append(f"all rows of {_partitions(len(new_leaves))} attached since the last sync")
    if altered:
        reason.append(
            f"all rows of {_partitions(len(altered))} detached, altered and attached again since the last sync"
        )
    if rewritten:
        survives = "and every row is in another block" if moved else "which xmin survives"
        survives = "which its rows' ids may not survive" if is_repack else survives
        reason.append(f"the table was rewritten or truncated since the last sync, {survives}")
    if alterations.columns:
        reason.append(describe(alterations.columns))
    doubt = unproven(source, state)
    if source.proven_start:
        reason.append(f"{RESTARTED}, and its WAL is the one that the last sync saw")
    if doubt:
        reason.append(f"{doubt}, so the whole copy is checked against it by a checksum")
    return Plan(
        mode=Mode.XMIN_INCREMENTAL,
        reason="; ".join(reason),
        watermark=state.watermark,
        full_leaves=(*new_leaves, *altered, *moved),
        compare_values=same_id_other_values(
            state,
            new_leaves=bool(new_leaves or altered or (rewritten and is_repack)),
            unproven=doubt is not None,
        ),
        checksum=doubt is not None,
        unproven=doubt,
    )


def _partitions(number: int) -> str:
    return f"{number} partitions" if number > 1 else "a partition"
