"""Whether a sync can read the blocks that changed and no others, as far as its own facts tell. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from xmin_assets.config import TableConfig
from xmin_assets.postgres.catalog import Storage
from xmin_assets.replication.changed_blocks.prerequisites import (
    BLOCKS_OF_DELETED_ROWS,
    CLOSED_PARTITIONS,
    REPEATED_KEYS,
    TURNED_OFF,
    UNLIKE_PARTITIONS,
    BlockMapUnavailable,
)
from xmin_assets.replication.changed_blocks.wal_positions import start_position
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.state import State


def block_map_start(
    table: TableConfig, storage: Sequence[Storage], plan: Plan, state: State | None, *, unique_key: bool
) -> int:
    """Find the WAL position, in bytes, since which the changed blocks have to be known.

    Args:
        table: the table's configuration.
        storage: the relations that hold the table's rows.
        plan: what is to be read otherwise.
        state: of the target.
        unique_key: see `Selection`.

    Raises:
        BlockMapUnavailable: every block must be read; the message says why.
    """
    if plan.watermark is None or state is None:
        raise BlockMapUnavailable("this sync is not about what changed")
    if not table.wal_summaries:
        raise BlockMapUnavailable(TURNED_OFF.reason)
    if not unique_key:
        raise BlockMapUnavailable(REPEATED_KEYS.reason)
    if plan.checksum:
        raise BlockMapUnavailable("the whole copy is checked by a checksum")
    if not all(leaf.readable for leaf in storage):
        raise BlockMapUnavailable(CLOSED_PARTITIONS.reason)
    if not all(leaf.alike for leaf in storage):
        raise BlockMapUnavailable(UNLIKE_PARTITIONS.reason)
    if {(leaf.oid, leaf.relfilenode) for leaf in state.identity.leaves} != {
        (leaf.oid, leaf.relfilenode) for leaf in storage
    }:
        raise BlockMapUnavailable("the table has other files than at the last sync")
    if plan.full_leaves:
        raise BlockMapUnavailable("all rows of a partition are read")
    if plan.find_deletes and table.deletes.detects and not table.track_blocks:
        raise BlockMapUnavailable(BLOCKS_OF_DELETED_ROWS.reason)
    if plan.find_deletes and state.deletes_left:
        raise BlockMapUnavailable(
            "the last sync did not look for deleted rows, and their blocks may be those of before"
        )
    start = start_position(state.wal_positions, state.watermark)
    if start is None:
        raise BlockMapUnavailable("a transaction that was open at the last syncs may have written before them")
    return start
