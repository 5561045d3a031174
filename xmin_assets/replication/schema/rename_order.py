"""Renames in an order in which each new name is free."""

from __future__ import annotations

from xmin_assets.replication.manifests.operations import RenameColumn


def in_order(renames: list[RenameColumn]) -> list[RenameColumn]:
    """Order renames so that names that are still in use are freed first.

    Where they form a circle, one goes by way of a name that nobody has.
    """
    ordered: list[RenameColumn] = []
    waiting = list(renames)
    while waiting:
        in_use = {rename.name for rename in waiting}
        free = [rename for rename in waiting if rename.to not in in_use]
        if not free:
            first, away = waiting[0], f"xmin_assets renames {len(ordered)}"
            ordered.append(RenameColumn(first.name, away))
            waiting = [RenameColumn(away, first.to), *waiting[1:]]
        ordered += free
        waiting = [rename for rename in waiting if rename not in free]
    return ordered
