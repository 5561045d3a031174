"""Whether a full sync is read in chunks, and what is left of a load. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from xmin_assets.config import Mode, TableConfig
from xmin_assets.config.deletes import Deletes
from xmin_assets.config.tables import Triggers
from xmin_assets.postgres.catalog import Storage
from xmin_assets.replication.manifests.load import Load, LoadProgress
from xmin_assets.replication.manifests.plan import BlockRange, Plan, PlannedLoad, SourceSnapshot
from xmin_assets.replication.manifests.table import Identity, Selection
from xmin_assets.replication.scan.ranges import BLOCK_SIZE
from xmin_assets.replication.schema.selection import VIEWS
from xmin_assets.replication.state.loads import load_table


def may_be_chunked(table: TableConfig, kind: str, selection: Selection, plan: Plan, storage: Sequence[Storage]) -> bool:
    """Return whether the table may be read in chunks, whatever its size.

    What closes a load is an incremental sync by xmin: it needs the key, known to be unique at the source, and rows
    whose content their xmin tells. And blocks must be read one by one.

    Args:
        table: the table's configuration.
        kind: pg_class.relkind of the source table.
        selection: what is copied.
        plan: of the sync.
        storage: the relations that hold the table's rows.
    """
    return (
        plan.mode is Mode.FULL_SYNC
        and table.mode is Mode.XMIN_INCREMENTAL
        and kind not in VIEWS
        and bool(storage)
        and selection.unique_key
        and all(leaf.readable and leaf.alike and not leaf.unlogged for leaf in storage)
    )


def plan_load(
    table: TableConfig,
    storage: Sequence[Storage],
    under_way: tuple[Load, LoadProgress] | None,
) -> PlannedLoad | None:
    """Return how a table that may be read in chunks is read; None if it is in one piece.

    Args:
        table: the table's configuration.
        storage: the relations that hold the table's rows.
        under_way: the load of the table that has begun.
    """
    if under_way:
        load, progress = under_way
        left = remaining(load.ranges, progress.done)
        total = max(1, blocks_in(load.ranges))
        left_bytes = load.bytes * blocks_in(left) // total
        return PlannedLoad(
            chunks=math.ceil(left_bytes / table.load_chunk_bytes),
            bytes=load.bytes,
            loaded_bytes=load.bytes - left_bytes,
            loaded_rows=progress.rows,
            load_id=load.load_id,
        )
    size = sum(leaf.all_bytes for leaf in storage)
    if size <= table.load_chunk_bytes:
        return None
    return PlannedLoad(chunks=math.ceil(size / table.load_chunk_bytes), bytes=size)


def load_text(load: PlannedLoad) -> str:
    """Say for people how a table is read in chunks, and how much of it is loaded already."""
    chunks = "1 chunk" if load.chunks == 1 else f"{load.chunks} chunks"
    if load.load_id is None:
        return f"in {chunks}, each under a snapshot of its own"
    share = f"{load.loaded_bytes / max(1, load.bytes):.0%}"
    if not load.chunks:
        return f"all is loaded ({load.loaded_rows:,} rows); what has changed since is still to be read"
    return f"{share} is loaded ({load.loaded_rows:,} rows); the rest in {chunks}, each under a snapshot of its own"


def closing_config(table: TableConfig) -> TableConfig:
    """Return the configuration by which the load's table is kept.

    It is a plain copy of the source's rows. What the target is to have beside them is done when it is merged there.
    """
    return table.model_copy(
        update={
            "target": str(load_table(table.target_name)),
            "deletes": Deletes.HARD,
            "delete_detection": type(table).model_fields["delete_detection"].default,
            "triggers": Triggers.FIRE,
            "adopt": False,
            "max_delete_share": 1.0,
            "max_change_share": 1.0,
        }
    )


def begun_anew(load: Load, planned: SourceSnapshot, closing: SourceSnapshot, progress: LoadProgress) -> str | None:
    """Say why a load cannot go on, and must begin anew; None if it can.

    Args:
        load: the load under way.
        planned: the full sync that is planned now.
        closing: the sync from where the load began, planned now, into the load's table.
        progress: how far the load is.
    """
    if planned.source_selection != load.planned.source_selection:
        return "its columns, their types, its key or what is copied of it were changed while it was loaded"
    if planned.target_selection != load.planned.target_selection or closing.plan.column_operations:
        return "the target's columns or types were changed while it was loaded"
    if closing.plan.mode is not Mode.XMIN_INCREMENTAL:
        return closing.plan.reason
    files = {leaf.oid: leaf.relfilenode for leaf in closing.identity.leaves}
    left = {r.filenode for r in remaining(load.ranges, progress.done)}
    for leaf in load.state.identity.leaves:
        if leaf.relfilenode in left and files.get(leaf.oid, leaf.relfilenode) != leaf.relfilenode:
            return f"{leaf.schema}.{leaf.name} was rewritten or truncated before all of it was loaded"
    return None


def left_to_read(load: Load, progress: LoadProgress, now: Identity) -> tuple[BlockRange, ...]:
    """Return the blocks that are still to be loaded, of the partitions that the table still has."""
    files = {leaf.relfilenode for leaf in now.leaves}
    return tuple(r for r in remaining(load.ranges, progress.done) if r.filenode in files)


def wholly_loaded(load: Load, progress: LoadProgress) -> Identity:
    """Return the identity of the load's table, without partitions of which blocks are still to be loaded.

    Such a partition is gone. Should it come back, it is one that was attached, and all of it is read.
    """
    left = {r.filenode for r in remaining(load.ranges, progress.done)}
    leaves = tuple(leaf for leaf in load.state.identity.leaves if leaf.relfilenode not in left)
    return load.state.identity.with_leaves(leaves)


def next_chunk(left: Sequence[BlockRange], most: int) -> tuple[BlockRange, ...]:
    """Return the first `most` blocks of what is left; at least one."""
    chunk: list[BlockRange] = []
    room = max(1, most)
    for r in left:
        if not room:
            break
        taken = min(room, r.end - r.start)
        chunk.append(BlockRange(r.filenode, r.start, r.start + taken))
        room -= taken
    return tuple(chunk)


def blocks_per_chunk(load: Load, chunk_bytes: int) -> int:
    """Return how many blocks of the table have about so many bytes, TOAST included."""
    blocks = max(1, blocks_in(load.ranges))
    return max(1, chunk_bytes * blocks // max(load.bytes, BLOCK_SIZE * blocks))


def pieces(chunk: Sequence[BlockRange], most: int) -> tuple[BlockRange, ...]:
    """Cut the ranges of a chunk into pieces of `most` blocks at most, for the workers."""
    return tuple(
        BlockRange(r.filenode, start, min(start + most, r.end)) for r in chunk for start in range(r.start, r.end, most)
    )


def all_blocks(storage: Iterable[Storage]) -> tuple[BlockRange, ...]:
    """Return all blocks of a table's relations."""
    return tuple(
        BlockRange(leaf.relfilenode, 0, leaf.main_bytes // BLOCK_SIZE)
        for leaf in storage
        if leaf.main_bytes >= BLOCK_SIZE
    )


def blocks_in(ranges: Iterable[BlockRange]) -> int:
    """Count the blocks of disjoint ranges."""
    return sum(r.end - r.start for r in ranges)


def loaded_share(load: Load, left: Sequence[BlockRange]) -> float:
    """Return the share of the table's blocks, 0 to 1, that is loaded when these are left."""
    return 1 - blocks_in(left) / max(1, blocks_in(load.ranges))


def remaining(ranges: Sequence[BlockRange], done: Sequence[BlockRange]) -> tuple[BlockRange, ...]:
    """Return what is left of ranges without those that are done.

    Args:
        ranges: disjoint.
        done: disjoint, each within one of the ranges.
    """
    ordered = sorted(done, key=lambda r: (r.filenode, r.start))
    by_file = {filenode: list(found) for filenode, found in groupby(ordered, key=lambda r: r.filenode)}
    left: list[BlockRange] = []
    for r in ranges:
        start = r.start
        for d in by_file.get(r.filenode, ()):
            if d.end <= start or d.start >= r.end:
                continue
            if d.start > start:
                left.append(BlockRange(r.filenode, start, d.start))
            start = max(start, d.end)
        if start < r.end:
            left.append(BlockRange(r.filenode, start, r.end))
    return tuple(left)
