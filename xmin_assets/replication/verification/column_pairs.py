"""Which columns of source and target are compared, and whether the last watermark still means something. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from xmin_assets.config import TableConfig
from xmin_assets.errors import NotComparable
from xmin_assets.postgres import xid
from xmin_assets.postgres.catalog import Attribute
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Column
from xmin_assets.replication.planning.source_identity import another_source, rewound
from xmin_assets.replication.planning.where_meaning import another_meaning
from xmin_assets.replication.scan.checksum import as_in_target
from xmin_assets.replication.schema.selection import VIEWS
from xmin_assets.replication.schema.type_meaning import reworded

INTEGERS = ("smallint", "integer", "bigint")


@dataclass(frozen=True)
class ColumnPairs:
    """The columns that are compared, in the same order on both sides."""

    source: tuple[Column, ...]
    target: tuple[Column, ...]
    left_out: tuple[str, ...]
    """Those that cannot be compared, or that only the source has, each with the reason in words."""

    def key(self, names: tuple[str, ...]) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
        """Return the columns of these names in the target, as they are on each side."""
        indexes = [[column.name for column in self.target].index(name) for name in names]
        return tuple(self.source[index] for index in indexes), tuple(self.target[index] for index in indexes)

    def has_number(self, names: tuple[str, ...]) -> bool:
        """Return whether the key of these columns is an integer, on both sides."""
        sides = self.key(names)
        return all(len(key) == 1 and (key[0].override or key[0].type) in INTEGERS for key in sides)


def pair_columns(
    table: str,
    state: State,
    source: SourceFacts,
    *,
    source_columns: Iterable[Attribute],
    target_columns: Iterable[Attribute],
) -> ColumnPairs:
    """Find what the last sync copied on both sides.

    Args:
        table: its name for people.
        state: of the last sync.
        source: the source's facts.
        source_columns: of the source table.
        target_columns: of the target table.

    Raises:
        NotComparable: a column of the key cannot be compared, or the target lacks a column.
    """
    same = state.identity.is_same_relation_as(source.identity)
    sources = {attribute.attnum if same else attribute.name: attribute for attribute in source_columns}
    targets = {attribute.name for attribute in target_columns}
    was, now = state.selection, source.selection
    types = {*reworded((*was.types, *was.printed_types), (*now.types, *now.printed_types))}
    of_source: list[Column] = []
    of_target: list[Column] = []
    left_out = []
    for column in state.selection.columns:
        if column.name not in targets:
            raise NotComparable(f"{table}: the target has no column {column.name} any more. Run xmin-assets sync.")
        found = sources.get(column.attnum if same else column.name)
        if reason := _why_not(column, found, types):
            if column.name in state.selection.key:
                raise NotComparable(
                    f"{table}: the key's column {column.name} {reason}, so rows cannot be recognised. Run xmin-assets "
                    "sync first."
                )
            left_out.append(f"{column.name} {reason}")
        elif found:
            of_source.append(
                Column(
                    found.attnum,
                    found.name,
                    found.type,
                    found.virtual,
                    override=column.override,
                    compared_as=column.compared_as,
                )
            )
            of_target.extend(as_in_target([column]))
    known = {column.attnum if same else column.name for column in state.selection.columns}
    left_out += [
        f"{column.name} is new at the source, and the target lacks it until the next sync"
        for column in now.columns
        if (column.attnum if same else column.name) not in known
    ]
    return ColumnPairs(tuple(of_source), tuple(of_target), tuple(left_out))


def watermark_lost(table: TableConfig, source: SourceFacts, state: State) -> str | None:
    """Say why the last watermark means nothing for the source's rows, so that every difference counts; else None."""
    if source.identity.kind in VIEWS:
        return "rows of a view have no xmin"
    if state.resync:
        return f"the next sync reads everything ({state.resync})"
    if xid.wrapped(state.watermark, source.horizon):
        return "the last sync is too long ago for row ages"
    # With another where clause, the rows of the last sync are compared all the same.
    same_clause = source.selection.where == state.selection.where
    return (
        another_source(table, source, state)
        or rewound(source, state)
        or (another_meaning(source.selection.terms, state.selection.terms) if same_clause else None)
    )


def _why_not(before: Column, now: Attribute | None, types: Set[str]) -> str | None:
    if now is None:
        return "is gone at the source"
    if now.type != (was := before.source_type):
        return f"is {now.type} at the source now, and was {was}"
    if now.virtual != before.virtual:
        return "is generated by another expression now"
    if now.type.removesuffix("[]") in types:
        return f"prints its values otherwise since the type {now.type.removesuffix('[]')} was changed"
    return None
