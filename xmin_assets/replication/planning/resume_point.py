"""Where the next sync resumes: at what no crash of the source can undo any more.

A transaction that commits asynchronously is visible before its WAL is on disk, and so is the end of any that rolls
back. After a crash its id is given out again. So a watermark, and a WAL position from which changed blocks are known,
are remembered only when the source's disk has what they stand for. Until then the next sync resumes where this one did:
it reads rows again, and merges them as they are by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psycopg2.extensions as ext

from xmin_assets.postgres import xid
from xmin_assets.postgres.server import Server, flushed_lsn, snapshot_and_lsn, wait_for_flush
from xmin_assets.postgres.wal_records import WalRecords
from xmin_assets.replication.changed_blocks.wal_positions import remember_position
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.state import State, Unflushed, WalPosition
from xmin_assets.replication.planning.wal_proof import note_records

UNMOVED = 1_000_000
"""Transactions for which the watermark may stay where it is while nothing changes."""


@dataclass(frozen=True)
class ResumePoint:
    """What a merged extract leaves for the next sync; see `State`."""

    watermark: int
    lsn: int | None
    wal_positions: tuple[WalPosition, ...]
    unflushed: Unflushed | None = None
    wal_records: WalRecords | None = None


def covering(cursor: ext.cursor, planned: SourceSnapshot, server: Server) -> int | None:
    """Find the earliest known WAL position before which all was written that the cursor's snapshot shows.

    None where the server does not tell.

    To look at the catalog may log hint bits, which nobody has to wait for. If a transaction had ended since the source
    was looked at, another snapshot would tell; and what was on disk then, no crash has changed since.
    """
    snapshot, lsn = snapshot_and_lsn(cursor)
    known = planned.flushed
    return known.lsn if known and (known.snapshot, known.started) == (snapshot, server.started) else lsn


def resume_point(
    cursor: ext.cursor,
    snapshot: SourceSnapshot,
    facts: SourceFacts,
    *,
    next_xid: int | None,
    lsn: int | None,
    since: float,
    found: bool,
) -> ResumePoint:
    """Decide where the next sync resumes.

    To move the watermark takes as long as the server needs to write what the snapshot may show to its disk. A sync that
    has found nothing need not wait for it: where it began is as good, as long as rows' ages are far from telling less.

    Args:
        cursor: at the source, in a transaction; the extract's is over.
        snapshot: the sync.
        facts: as the extract saw them.
        next_xid: the next xid64 to be assigned, as it was read after the server's position in the facts; None where
            rows have no xmin.
        lsn: what `covering` gave.
        since: monotonic time in seconds of that.
        found: whether rows or keys were copied.

    Raises:
        Cancelled: `cancel_all` was called.
    """
    plan, state = snapshot.plan, snapshot.state
    if lsn is None or facts.server.lsn is None:
        # Nothing tells what a crash may undo. So nothing proves this server's history either, and every sync checks
        # the whole copy: wherever the next one resumes, no row is missed.
        return ResumePoint(facts.horizon, None, ())
    before = ResumePoint(xid.FIRST_NORMAL, lsn, ())
    if state and plan.watermark is not None:
        same_start = state.source_started == facts.server.started
        # In a copy of the server, a transaction that is open now may have written before these positions.
        before = ResumePoint(
            state.watermark,
            max(state.source_lsn or 0, lsn),
            () if plan.checksum else state.wal_positions,
            state.unflushed if same_start else None,
        )
        moves = plan.checksum or plan.full_leaves or plan.statements or facts.horizon - state.watermark > UNMOVED
        if not found and not moves and flushed_lsn(cursor, lsn) is None:
            # What else the state has of the source was then seen after its WAL position, too, and must be the same.
            same = (snapshot.identity, snapshot.target_selection) == (state.identity, state.selection)
            return replace(before, lsn=state.source_lsn, wal_records=state.wal_records if same else None)
    # The id was read after the position: whatever has it, or a later one, has written nothing before. A crash must not
    # let the position be reached again, though, by what is written after it.
    position = None if next_xid is None else WalPosition(min(facts.server.lsn, lsn), next_xid)
    # To read all of this again takes as long as it took now.
    on_disk = wait_for_flush(cursor, lsn, time.monotonic() - since)
    if on_disk is None:
        # The older one will be on disk before a newer one, so a busy source does not put it off for ever.
        return replace(before, unflushed=before.unflushed or Unflushed(facts.horizon, lsn, position))
    return ResumePoint(
        facts.horizon,
        on_disk,
        _with(before.wal_positions, position, facts.horizon),
        wal_records=note_records(cursor, facts.server, on_disk),
    )


def caught_up(state: State, server: Server, is_flushed: Callable[[int], bool]) -> State:
    """Let a state resume where its last sync ended, if the source's disk has that by now.

    Args:
        state: of the target.
        server: the source, as it is now.
        is_flushed: whether its WAL is on disk up to a position.
    """
    later = state.unflushed
    # Positions and ids of another server, or of one that has crashed since, say nothing of these.
    same = (state.identity.system_identifier, state.identity.timeline, state.source_started) == (
        server.system_identifier,
        server.timeline,
        server.started,
    )
    if later is None or not same or not is_flushed(later.lsn):
        return state
    return replace(
        state,
        watermark=later.watermark,
        wal_positions=_with(state.wal_positions, later.position, later.watermark),
        unflushed=None,
    )


def _with(
    wal_positions: tuple[WalPosition, ...], position: WalPosition | None, watermark: int
) -> tuple[WalPosition, ...]:
    return remember_position(wal_positions, position, watermark) if position else wal_positions
