"""What gives a target table the key that it is merged by: from facts to operations. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from xmin_assets.replication.manifests.facts import TargetKeys
from xmin_assets.replication.manifests.operations import (
    AddKey,
    ColumnOperation,
    DropColumn,
    DropKey,
    DropNotNull,
    names_after,
)


def changed_key(
    present: TargetKeys,
    former: tuple[str, ...] | None,
    key: tuple[str, ...],
    operations: Sequence[ColumnOperation],
) -> tuple[DropKey | None, AddKey | None]:
    """Decide which key is dropped before anything else is done, and which one is added in the end.

    Args:
        present: the keys of the target table, as its columns are called now.
        former: the key that the last sync left; None if it was not made by this project. Its index goes, because rows
            may come that are the same by it, or have a NULL in it. An index that somebody else has made stays.
        key: the columns that identify a row from now on; none for a table whose rows have no key.
        operations: what is done to the columns before.
    """
    dropped = {operation.name for operation in operations if isinstance(operation, DropColumn)}
    unique = {names_after(columns, operations) for columns in present.unique if not dropped & {*columns}}
    if key in unique or (not key and not former):
        return None, None
    primary = present.primary if present.primary and not dropped & {*present.primary.columns} else None
    drop = None
    if primary and former:
        columns = names_after(primary.columns, operations)
        if {*columns} == {*names_after(former, operations)}:
            told = {operation.name for operation in operations if isinstance(operation, DropNotNull)}
            nullable = (
                now for now, then in zip(primary.columns, columns, strict=True) if then not in key and then not in told
            )
            drop = DropKey(primary.constraint, tuple(nullable))
            primary = None
    return drop, AddKey(key, is_primary=primary is None) if key else None
