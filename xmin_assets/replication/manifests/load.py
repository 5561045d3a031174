"""A load by chunks: what is remembered of it in the target while it is under way, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass

from xmin_assets.replication.manifests.plan import BlockRange, SourceSnapshot
from xmin_assets.replication.manifests.state import State


@dataclass(frozen=True)
class Load:
    """A load that has begun: it fills a table in the target, chunk by chunk, that then becomes or mends the target."""

    load_id: str
    """The sync_id of the sync that began it."""
    planned: SourceSnapshot
    """What that sync was going to do."""
    state: State
    """As if a sync had ended when the load began and left no row: the closing sync goes on from there."""
    ranges: tuple[BlockRange, ...]
    """All blocks that the table had by then, leaf by leaf."""
    bytes: int
    """Of the table, with TOAST."""


@dataclass(frozen=True)
class LoadProgress:
    """How far a load is."""

    done: tuple[BlockRange, ...]
    """Blocks whose rows are in the load's table."""
    rows: int
    csv_bytes: int
    max_xid: int
    """Highest xid64 among the rows; 0 for none."""


NOTHING_LOADED = LoadProgress(done=(), rows=0, csv_bytes=0, max_xid=0)
