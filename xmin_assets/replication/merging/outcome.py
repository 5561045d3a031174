"""What a merge reports, and what the target remembers of it. Pure."""

from __future__ import annotations

from datetime import datetime

from xmin_assets.config import Mode
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import TypeMap
from xmin_assets.replication.merging.row_merge import Written


def merged_target(staged: StagedTable, written: Written, *, rows: int, seconds: float) -> MergedTarget:
    """Return the report of a merge.

    Args:
        staged: what was merged.
        written: what the merge did.
        rows: that the target now shares with the source.
        seconds: that the merge took.
    """
    extract, snapshot = staged.extract, staged.extract.snapshot
    plan, state = snapshot.plan, snapshot.state
    max_xmin = extract.max_xmin
    if plan.mode is not Mode.FULL_SYNC and state:
        max_xmin = max(max_xmin, state.max_xmin)
    return MergedTarget(
        sync_id=snapshot.sync_id,
        table=snapshot.table,
        target=str(snapshot.config.target_name),
        mode=plan.mode,
        reason=_reason(staged),
        inserted=written.inserted,
        updated=written.updated,
        deleted=written.deleted,
        unchanged=staged.rows - written.inserted - written.updated,
        rows=rows,
        watermark=extract.horizon,
        watermark_before=state.watermark if state else None,
        max_xmin=max_xmin,
        rows_extracted=extract.rows,
        bytes_extracted=extract.bytes,
        columns=snapshot.target_selection.columns,
        key=snapshot.target_selection.key,
        seconds=seconds,
    )


def state_after(
    staged: StagedTable, result: MergedTarget, *, target_oid: int, keeps_columns: bool, now: datetime
) -> State:
    """Return the state that a merge leaves.

    Args:
        staged: what was merged.
        result: the report of the merge.
        target_oid: of the target table.
        keeps_columns: whether the target has columns that are no longer copied.
        now: when the merge ended.
    """
    extract, snapshot = staged.extract, staged.extract.snapshot
    plan, before = snapshot.plan, snapshot.state
    return State(
        revision=(before.revision if before else 0) + 1,
        sync_id=result.sync_id,
        watermark=result.watermark,
        resync=None,
        max_xmin=result.max_xmin,
        rows=result.rows,
        source_lsn=extract.source_lsn,
        target_oid=target_oid,
        source_table=snapshot.table,
        identity=snapshot.identity,
        selection=snapshot.target_selection,
        merged_at=now,
        source_started=extract.source_started,
        unflushed=extract.unflushed,
        reused_below=_reused_below(staged),
        cursor=extract.cursor,
        deletes_compared_at=now if plan.find_deletes or before is None else before.deletes_compared_at,
        deletes_left=not plan.find_deletes,
        wal_positions=extract.wal_positions,
        scan_seconds=extract.scan_seconds or (before.scan_seconds if before else 0.0),
        types=_stored_types(staged, before, keeps_columns),
        borrowed=snapshot.borrowed,
        wal_records=extract.wal_records,
    )


def _reason(staged: StagedTable) -> str:
    extract, snapshot = staged.extract, staged.extract.snapshot
    reasons = [snapshot.plan.reason]
    if nulls := extract.null_cursors:
        reasons.append(f"{nulls} rows have no {snapshot.target_selection.cursor} and are read by every sync")
    if extract.unflushed and snapshot.plan.watermark is not None:
        reasons.append("the source had not written all that was read to its disk yet, so the watermark stays")
    return "; ".join(reasons)


def _reused_below(staged: StagedTable) -> int:
    """Return the highest id that another history of the source may have given out, too."""
    snapshot = staged.extract.snapshot
    plan, state = snapshot.plan, snapshot.state
    if state is None or plan.mode is Mode.FULL_SYNC:  # which has replaced the ids of all rows
        return 0
    return max(state.reused_below, state.max_xmin if plan.checksum else 0)


def _stored_types(staged: StagedTable, before: State | None, keeps_columns: bool) -> tuple[TypeMap, ...] | None:
    """Return what the stored values are of, those of columns that are only kept included."""
    earlier = before.types if before else None
    if staged.types is None:
        return earlier  # nothing was loaded
    now = staged.types.maps
    names = {(made.schema, made.name) for made in now}
    left = tuple(was for was in earlier or () if (was.schema, was.name) not in names)
    return (*now, *left) if keeps_columns else now
