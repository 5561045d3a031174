"""Whether rows that were copied still mean the same, now that types of their columns have changed. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from xmin_assets.postgres.types import UserType
from xmin_assets.replication.manifests.table import Column, TypeMap


def misplaced(before: Sequence[TypeMap] | None, now: Sequence[TypeMap]) -> str | None:
    """Find the type of which a target's rows may hold other values than the source's; None if they hold the same.

    Rows hold the numbers of labels, and a composite's values in the places of its attributes. So they hold what the
    source has if each number that a sync has put there still stands for the same label or attribute of the source.

    Args:
        before: as of the table's last sync; None if that is not known.
        now: as they will be when this sync has changed the types.
    """
    known = {(was.schema, was.name): was for was in before or ()}
    for made in now:
        was = known.get((made.schema, made.name))
        name = f"{made.schema}.{made.name}"
        if was is None:
            # No row has a value of it, if all types were noted.
            if before is None:
                return name
            continue
        if (was.oid, was.target_oid) != (made.oid, made.target_oid):
            return name
        parts = dict(made.parts)
        for number, place in was.parts:
            if parts.get(number, place) != place or (number not in parts and place in parts.values()):
                return name
    return None


def reworded(before: Sequence[UserType], now: Sequence[UserType]) -> list[str]:
    """Find the types of the source whose values print otherwise than they did, without a row that changed.

    Labels that were added are no such change. Along with a type come those that are made of it.

    Args:
        before: as of the table's last sync.
        now: each after those that it is made of.
    """
    known = {was.oid: was for was in before}
    found: list[str] = []
    for made in now:
        was = known.get(made.oid)
        if was is None:
            continue
        texts = {label.oid: label.text for label in made.labels}
        parts = [made.base or "", *(part.type for part in made.fields)]
        if (
            any(texts.get(label.oid) != label.text for label in was.labels)
            or made.fields != was.fields
            or any(part.removesuffix("[]") in found for part in parts)
        ):
            found.append(made.text)
    return found


def labels_renamed(
    was: Column, before: Sequence[UserType], column: Column, now: Sequence[UserType]
) -> tuple[tuple[str, str], ...] | None:
    """Find out whether a column's type is the same one under another name: its oid stays, and so do its values' texts.

    Args:
        was: the column as of the last sync of the same relation.
        before: its types.
        column: the column now.
        now: its types.

    Returns:
        The labels that were renamed along with it, before and now; None if it is another type, or has values that print
        otherwise and that no list of labels converts.
    """
    if was.override or column.override or was.source_type == column.source_type:
        return None
    old, new = _type_of(was, before), _type_of(column, now)
    is_array = was.source_type.endswith("[]")
    if old is None or new is None or is_array != column.source_type.endswith("[]"):
        return None
    if _made_of(old) != _made_of(new):
        return None
    texts = {label.oid: label.text for label in new.labels}
    if any(label.oid not in texts for label in old.labels):
        return None
    labels = tuple((label.text, texts[label.oid]) for label in old.labels if texts[label.oid] != label.text)
    return None if labels and is_array else labels


def _made_of(made: UserType) -> tuple[object, ...]:
    """Return all that makes a type but its names."""
    return made.oid, made.kind, made.extension, made.base, made.collation, made.fields


def _type_of(column: Column, types: Sequence[UserType]) -> UserType | None:
    return next((made for made in types if made.text == column.source_type.removesuffix("[]")), None)
