"""Whether a where clause, or a virtual column, still means for a row what it meant for the last sync. Pure."""

from __future__ import annotations

from dataclasses import replace

from xmin_assets.postgres.types import UserType
from xmin_assets.replication.manifests.table import Terms


def another_meaning(now: Terms, before: Terms) -> str | None:
    """Say what changed of all that the clause, or a virtual column, depends on; None if nothing did."""
    if now == before:
        return None
    unmatched = {column.attnum: column for column in before.columns}
    user = "which the where clause or a generated column may use"
    for column in now.columns:
        was = unmatched.pop(column.attnum, None)
        if was is None:
            return f"another column has the name {column.name}, {user}"
        if was.name != column.name:
            return f"the column {was.name}, {user}, is now called {column.name}"
        if was != column:
            return f"the column {column.name}, {user}, was changed"
    for gone in unmatched.values():
        return f"there is no column {gone.name} any more, {user}"
    if now.path != before.path:
        return "the where clause finds functions and operators in other schemas than before, those of extensions"
    known = {made.text: made for made in before.types}
    for made in now.types:
        if made.text not in known or not _same_values(made, known.pop(made.text)):
            return f"the type {made.text}, which the where clause may use, was changed"
    return next((f"there is no type {gone} any more, which the where clause may use" for gone in known), None)


def _same_values(now: UserType, before: UserType) -> bool:
    """Return whether a type's values are what they were; labels may have been added."""
    known = {label.oid for label in before.labels}
    return replace(now, labels=tuple(label for label in now.labels if label.oid in known)) == before
