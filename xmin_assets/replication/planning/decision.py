"""The decision for one sync: what is read, from where on, and why. Pure: from facts to a plan, no connection."""

from __future__ import annotations

from dataclasses import replace

from xmin_assets.config import Mode, TableConfig, duration
from xmin_assets.errors import ForeignTarget
from xmin_assets.postgres import xid
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.postgres.types import still_means
from xmin_assets.replication.manifests.facts import SourceFacts, TargetFacts
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.planning.source_identity import (
    RESTARTED,
    altered_leaves,
    another_source,
    replaced,
    require_caught_up,
    restarted,
    rewound,
    same_id_other_values,
)
from xmin_assets.replication.planning.where_meaning import another_meaning
from xmin_assets.replication.schema.column_changes import (
    altered_by_hand,
    column_changes,
    redefined,
)
from xmin_assets.replication.schema.column_operations import ColumnOperation, create_statement, describe, rereads_rows
from xmin_assets.replication.schema.type_changes import misplaced, reworded


def decide(table: TableConfig, source: SourceFacts, target: TargetFacts, state: State | None) -> Plan:
    """Choose the mode of a sync, with its reason in words.

    Raises:
        ForeignTarget: the target has rows that this project did not put there.
        SchemaChangeRefused: see `column_operations_for`.
        SourceBehind: the source is a standby that has not replayed what the target already has.
    """
    known = state if state and target.oid == state.target_oid else None
    if target.oid is not None and known is None and target.has_rows and not table.adopt:
        raise ForeignTarget(
            f"{table.label}: the target table {table.target_name} exists, has rows, and was not made by this project; "
            "it is left as it is. Name another target, or set adopt: true to take it over."
        )
    require_caught_up(table, source, known)
    changes = column_changes(table, source, target, known)
    reason = _reason_for_everything(table, source, target, state, known, changes)
    if reason or known is None:
        return Plan(
            mode=Mode.FULL_SYNC,
            reason=reason or "first sync",
            compare_values=target.oid is not None,
            create_target=target.oid is None,
            another_source=replaced(table.label, source.identity, known) if known else None,
            statements=(
                (as_text(create_statement(table.target_name, source.selection)),)
                if target.oid is None
                else _texts(table, changes)
            ),
        )
    if source.selection.cursor:
        made = _by_cursor(table, source.selection.cursor, known, changes)
    else:
        made = _incremental(table, source, known, changes)
    # The checksum is of both sides as wholes, deleted rows included.
    return made if made.checksum or not table.deletes.detects else _without_deletes(made, table, target, known)


def _without_deletes(plan: Plan, table: TableConfig, target: TargetFacts, state: State) -> Plan:
    """The plan, without looking for deleted rows if that was done lately enough."""
    interval = table.delete_interval
    if interval is None or target.now is None or state.deletes_compared_at is None:
        return plan
    age = (target.now - state.deletes_compared_at).total_seconds()
    if not 0 <= age < interval:
        return plan
    again = duration(interval - age)
    reason = f"{plan.reason}; deleted rows were looked for {duration(age)} ago, and are again in {again}"
    return replace(plan, find_deletes=False, reason=reason)


def _by_cursor(table: TableConfig, cursor: str, state: State, changes: tuple[ColumnOperation, ...]) -> Plan:
    less = "" if table.cursor_lookback is None else f" less {table.cursor_lookback}"
    reason = [f"rows whose {cursor} is at least {state.cursor}{less}, or NULL"]
    if changes:
        reason.append(describe(changes))
    return Plan(
        mode=Mode.INCREMENTAL_SYNC,
        reason="; ".join(reason),
        cursor_from=state.cursor,
        compare_values=True,
        statements=_texts(table, changes),
    )


def _incremental(table: TableConfig, source: SourceFacts, state: State, changes: tuple[ColumnOperation, ...]) -> Plan:
    known_leaves = {leaf.oid: leaf for leaf in state.identity.leaves}
    new_leaves = tuple(leaf.oid for leaf in source.identity.leaves if leaf.oid not in known_leaves)
    altered = altered_leaves(state.identity, source)
    rewritten = tuple(
        leaf.oid
        for leaf in source.identity.leaves
        if leaf.oid in known_leaves and leaf.relfilenode != known_leaves[leaf.oid].relfilenode
    )
    moved = rewritten if source.selection.block_column else ()
    reason = [f"rows changed since transaction {state.watermark}"]
    if new_leaves:
        many = f"{len(new_leaves)} partitions" if len(new_leaves) > 1 else "a partition"
        reason.append(f"all rows of {many} attached since the last sync")
    if altered:
        many = f"{len(altered)} partitions" if len(altered) > 1 else "a partition"
        reason.append(f"all rows of {many} detached, altered and attached again since the last sync")
    if rewritten:
        survives = "and every row is in another block" if moved else "which xmin survives"
        reason.append(f"the table was rewritten or truncated since the last sync, {survives}")
    if changes:
        reason.append(describe(changes))
    anew = restarted(source, state)
    if anew:
        reason.append(f"{RESTARTED}, so the whole copy is checked against it by a checksum")
    return Plan(
        mode=Mode.XMIN_INCREMENTAL,
        reason="; ".join(reason),
        watermark=state.watermark,
        full_leaves=(*new_leaves, *altered, *moved),
        compare_values=same_id_other_values(state, new_leaves=bool(new_leaves or altered), restarted=anew),
        checksum=anew,
        statements=_texts(table, changes),
    )


def _reason_for_everything(
    table: TableConfig,
    source: SourceFacts,
    target: TargetFacts,
    state: State | None,
    known: State | None,
    changes: tuple[ColumnOperation, ...],
) -> str | None:
    """Why every row must be read, or None if those since the watermark will do."""
    if known is None:
        if target.oid is not None:
            return "first sync, into a table that was adopted" if target.has_rows else "first sync, into an empty table"
        return "the target table is gone" if state else "first sync"
    if known.resync:
        return known.resync
    for reason in (
        another_source(table, source, known),
        _another_selection(source.selection, known.selection),
    ):
        if reason:
            return reason
    by_hand = altered_by_hand(known.selection, source.selection, target.columns)
    if by_hand and (types := reworded(known.selection.types, source.selection.types)):
        return f"the type {types[0]} was changed, and a column of the target that has another type keeps how it prints"
    if made := misplaced(known.types, target.types):
        return f"values of the type {made} in the target may mean something else than at the source"
    noted = {made.qualified: made for made in known.borrowed}
    for borrowed in target.borrowed:
        if not still_means(noted.get(borrowed.qualified), borrowed):
            return f"a column has the type {borrowed.text} in the target alone, and not as the last sync left it"
    if source.selection.cursor and known.cursor is None:
        return f"no {source.selection.cursor} has been seen yet"
    if not source.selection.cursor and xid.wrapped(known.watermark, source.horizon):
        return (
            f"the watermark {known.watermark} is {source.horizon - known.watermark} transactions old, and row ages "
            f"tell only the last {xid.CYCLE} apart"
        )
    if reason := rewound(source, known):
        return reason
    if restarted(source, known):
        if source.selection.cursor:
            return f"{RESTARTED}, and {source.selection.cursor} does not tell what that may have undone"
        if known.selection.deletes.keeps:
            return f"{RESTARTED}, and a copy that keeps deleted rows cannot be checked by a checksum"
    if rereads_rows(changes):
        return f"{describe(changes)}: values may have changed without a new xmin"
    if others := redefined(known.selection, source.selection, True):
        return f"{describe(others)}: values may have changed without a new xmin"
    if table.mode is Mode.FULL_SYNC:
        return "mode full_sync reads everything every time"
    return None


def _another_selection(now: Selection, before: Selection) -> str | None:
    if now.cursor != before.cursor:
        return f"changes are now found by {now.cursor or 'xmin'}, not by {before.cursor or 'xmin'}"
    if now.where != before.where:
        return "the where clause was changed"
    if now.key != before.key:
        return f"the key is now {', '.join(now.key)}" if now.key else "there is no key any more"
    if now.deletes != before.deletes:
        return f"deletes is now {now.deletes.value}"
    if now.block_column and not before.block_column:
        return "track_blocks was turned on, and the target has to learn every row's block"
    expressions = {column.attnum: column.virtual for column in before.columns}
    for column in now.columns:
        if column.attnum in expressions and column.virtual != expressions[column.attnum]:
            return f"the expression of the generated column {column.name} was changed"
    if types := reworded(before.printed_types, now.printed_types):
        return f"the type {types[0]} was changed, and how its values print is what the target has"
    own_cursor = any(column.name == now.cursor and column.type in {t.text for t in now.types} for column in now.columns)
    if own_cursor and (types := reworded(before.types, now.types)):
        return f"the type {types[0]} was changed, and the cursor may name its values"
    return another_meaning(now.terms, before.terms)


def _texts(table: TableConfig, changes: tuple[ColumnOperation, ...]) -> tuple[str, ...]:
    return tuple(as_text(change.statement(table.target_name)) for change in changes)
