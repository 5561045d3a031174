"""The first line of a plan: how many tables, what is read of them, and about how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xmin_assets.config import duration
from xmin_assets.replication.runtime.units import bytes_text

if TYPE_CHECKING:
    from xmin_assets.replication.manifests.plan import SourceSnapshot
    from xmin_assets.replication.state.history import PastMerge
    from xmin_assets.replication.sync import TablePlan

FIRST_LOAD_RATE = 32 << 20
"""Bytes a second, of a first load that nothing is known of: what two cores managed with both servers beside them."""


def summary(plans: Sequence[TablePlan], past: Mapping[str, Sequence[PastMerge]], side_by_side: int) -> str:
    """Return the line.

    Args:
        plans: of all tables.
        past: the last merges of each table by its name, the newest one first.
        side_by_side: how many tables are synced at a time.
    """
    known = [plan.snapshot for plan in plans if plan.snapshot is not None]
    full = [one for one in known if _is_full(one)]
    blocks = [one for one in known if one.plan.map_from is not None]
    searched = [one for one in known if one not in full and one not in blocks]
    parts = [
        f"{len(full)} read in full ({_bytes(full)})" if full else "",
        f"{len(searched)} searched for what changed ({_bytes(searched)})" if searched else "",
        f"{len(blocks)} read where blocks changed" if blocks else "",
        f"{len(plans) - len(known)} not planned" if len(known) < len(plans) else "",
    ]
    tables = "1 table" if len(plans) == 1 else f"{len(plans)} tables"
    return f"{tables}: {', '.join(part for part in parts if part)}{_time(known, past, side_by_side)}"


def _is_full(snapshot: SourceSnapshot) -> bool:
    return snapshot.plan.watermark is None and snapshot.plan.cursor_from is None


def _bytes(snapshots: Sequence[SourceSnapshot]) -> str:
    return bytes_text(sum(one.bytes for one in snapshots))


def _time(known: Sequence[SourceSnapshot], past: Mapping[str, Sequence[PastMerge]], side_by_side: int) -> str:
    each = [seconds for one in known if (seconds := _seconds(one, past.get(one.table, ()))) is not None]
    if not each:
        return ""
    # The tables are synced side by side, and the longest one takes as long as it takes.
    together = max(max(each), sum(each) / max(1, min(side_by_side, len(each))))
    some = "" if len(each) == len(known) else f" for {len(each)} of them"
    return f"; about {duration(max(1, round(together)))}{some}"


def _seconds(snapshot: SourceSnapshot, past: Sequence[PastMerge]) -> float | None:
    """Return what the last sync of the same kind took, by today's rows if it read all; None where there was none."""
    full = _is_full(snapshot)
    for merge in past:
        if (merge.mode == "full_sync") is full:
            grown = _left(snapshot) * snapshot.rows_estimate / merge.rows if full and merge.rows else 1
            return sum(merge.seconds.values()) * (max(1.0, grown) if snapshot.load is None else grown)
    return _left(snapshot) * snapshot.bytes / FIRST_LOAD_RATE if full else None


def _left(snapshot: SourceSnapshot) -> float:
    """Return the share of a table that a load has still to read; 1 for any other sync."""
    load = snapshot.load
    return 1 - load.loaded_bytes / max(1, load.bytes) if load else 1.0
