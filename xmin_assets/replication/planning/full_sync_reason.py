"""Why a sync must read everything. Pure: from facts to a reason in words, no connection."""

from __future__ import annotations

from collections.abc import Sequence

from xmin_assets.config import Mode, TableConfig
from xmin_assets.postgres import xid
from xmin_assets.postgres.types import still_means
from xmin_assets.replication.manifests.facts import SourceFacts, TargetFacts
from xmin_assets.replication.manifests.operations import ColumnOperation, describe
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.planning.source_identity import another_source, rewound, unproven
from xmin_assets.replication.planning.unchanged_values import unchanged_columns
from xmin_assets.replication.planning.where_meaning import another_meaning
from xmin_assets.replication.schema.column_changes import altered_by_hand, redefined
from xmin_assets.replication.schema.type_meaning import misplaced, reworded


def full_sync_reason(
    *,
    table: TableConfig,
    source: SourceFacts,
    selection: Selection,
    target: TargetFacts,
    state: State | None,
    known: State | None,
    operations: Sequence[ColumnOperation],
) -> str | None:
    """Say why every row must be read; None if those since the watermark will do.

    Args:
        table: the table's configuration.
        source: the source table.
        selection: what is copied, as the target has it.
        target: the target table.
        state: what the target remembers under the table's name.
        known: the same, if it is about the target table that is there.
        operations: what must be done to the target's columns.
    """
    if known is None:
        if target.oid is not None:
            return "first sync, into a table that was adopted" if target.has_rows else "first sync, into an empty table"
        return "the target table is gone" if state else "first sync"
    if known.resync:
        return known.resync
    for reason in (
        another_source(table, source, known),
        _another_selection(selection, known.selection),
    ):
        if reason:
            return reason
    by_hand = altered_by_hand(known.selection, selection, target.columns)
    if by_hand and (types := reworded(known.selection.types, selection.types)):
        return f"the type {types[0]} was changed, and a column of the target that has another type keeps how it prints"
    if made := misplaced(known.types, target.types):
        return f"values of the type {made} in the target may mean something else than at the source"
    noted = {made.qualified: made for made in known.borrowed}
    for borrowed in target.borrowed:
        if not still_means(noted.get(borrowed.qualified), borrowed):
            return f"a column has the type {borrowed.text} in the target alone, and not as the last sync left it"
    if selection.cursor and known.cursor is None:
        return f"no {selection.cursor} has been seen yet"
    if not selection.cursor and xid.wrapped(known.watermark, source.horizon):
        return (
            f"the watermark {known.watermark} is {source.horizon - known.watermark} transactions old, and row ages "
            f"tell only the last {xid.CYCLE} apart"
        )
    if reason := rewound(source, known):
        return reason
    if reason := unproven(source, known):
        if selection.cursor:
            return f"{reason}, and {selection.cursor} does not tell what may have been undone"
        if known.selection.deletes.keeps:
            return f"{reason}, and a copy that keeps deleted rows cannot be checked by a checksum"
    unchanged = unchanged_columns(known, source, target)
    if any(operation.rereads_rows and operation.new_column not in unchanged for operation in operations):
        return f"{describe(operations)}: values may have changed without a new xmin"
    if others := [change for change in redefined(known.selection, selection, True) if change.name not in unchanged]:
        return f"{describe(others)}: values may have changed without a new xmin"
    if table.mode is Mode.FULL_SYNC:
        return "mode full_sync reads everything every time"
    return None


def _number_of(selection: Selection, name: str | None) -> int | None:
    """Return a column's attnum, by which it is the same one under another name."""
    return next((column.attnum for column in selection.columns if column.name == name), None)


def _another_selection(now: Selection, before: Selection) -> str | None:
    if now.cursor != before.cursor and _number_of(now, now.cursor) != _number_of(before, before.cursor):
        return f"changes are now found by {now.cursor or 'xmin'}, not by {before.cursor or 'xmin'}"
    if now.where != before.where:
        return "the where clause was changed"
    if [column.attnum for column in now.key_columns] != [column.attnum for column in before.key_columns]:
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
