"""Which changes of columns have changed no value that the target has. Pure.

A change that writes no row shows in no xmin, so after it every row must be read again, unless the catalog proves that
no row has another value:

- A column that was added since the last sync, without a default, is NULL in every row that was not written since. A
  default that rows have without having been written is noted in pg_attribute.atthasmissing, and one that was written to
  all rows has given the table another relfilenode.
- A column whose type only got another modifier has the same bytes if the table has the same relfilenode: PostgreSQL
  then knew that no value changes. Such a type prints its values by their bytes alone.
- A column whose type only got another name, or another schema, prints what it did.
"""

from __future__ import annotations

import re

from xmin_assets.replication.manifests.facts import SourceFacts, TargetFacts
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Column, Identity, Selection
from xmin_assets.replication.schema.selection import VIEWS
from xmin_assets.replication.schema.type_meaning import labels_renamed

_MODIFIER = re.compile(r"\([^()]*\)")

_TEXTS = ("character varying", "text")
_PRINTED_BY_THEIR_BYTES = {
    *_TEXTS,
    "bit varying",
    "numeric",
    "interval",
    "time without time zone",
    "time with time zone",
    "timestamp without time zone",
    "timestamp with time zone",
}
"""Types of which a value prints alike whatever the column's modifier is."""


def unchanged_columns(known: State, source: SourceFacts, target: TargetFacts) -> frozenset[str]:
    """Find the columns that are new or of another type, and have in every row that was not written what the target has.

    Args:
        known: of the last sync, of the same relation.
        source: now.
        target: now. What somebody has given another type there may have lost how its values print.

    Returns:
        Their names, as the source has them now.
    """
    before, now = known.identity, source.identity
    if not _same_storage(before, now):
        return frozenset()
    former = {column.attnum: column for column in known.selection.columns}
    types = {attribute.name: attribute.type for attribute in target.columns}
    return frozenset(
        column.name
        for column in source.selection.columns
        if (
            types.get(was.name) == was.type
            and (_prints_alike(was, column) or _is_renamed(was, known.selection, column, source.selection))
            if (was := former.get(column.attnum))
            else _is_null(column, before, filled=column.name in source.filled)
        )
    )


def _same_storage(before: Identity, now: Identity) -> bool:
    """Return whether every relation that the last sync read, as far as it is still there, was not rewritten since.

    A column that is added to a table that others inherit from may be one that they had already.
    """
    if now.kind in VIEWS or not before.last_attnum:
        return False
    has_heirs = now.kind == "r" and len(now.leaves) > 1
    files = {leaf.oid: leaf.relfilenode for leaf in now.leaves}
    return not has_heirs and all(files.get(leaf.oid, leaf.relfilenode) == leaf.relfilenode for leaf in before.leaves)


def _is_null(column: Column, before: Identity, *, filled: bool) -> bool:
    """Return whether a column that was not copied before is NULL wherever no row was written since the last sync."""
    return column.attnum > before.last_attnum and column.virtual is None and not filled


def _is_renamed(was: Column, before: Selection, column: Column, now: Selection) -> bool:
    # A sync that does not read all rows compares keys before it alters the target's column.
    return column.name not in now.key and labels_renamed(was, before.types, column, now.types) == ()


def _prints_alike(was: Column, now: Column) -> bool:
    if was.override or now.override or was.collation != now.collation or was.virtual != now.virtual:
        return False
    old, new = (_MODIFIER.sub("", column.source_type) for column in (was, now))
    return (old == new and new in _PRINTED_BY_THEIR_BYTES) or {old, new} == {*_TEXTS}
