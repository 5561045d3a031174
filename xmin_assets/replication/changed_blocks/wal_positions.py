"""WAL positions that a target remembers, each with the next transaction id after it."""

from __future__ import annotations

from collections.abc import Sequence


def lsn_text(position: int) -> str:
    """A WAL position as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


MOST_POSITIONS = 64
"""Positions that are remembered; fewer would do, were it not for transactions that stay open for days."""


def remember_position(
    wal_positions: Sequence[tuple[int, int]], position: tuple[int, int], watermark: int
) -> tuple[tuple[int, int], ...]:
    """Remember a position, and forget those that no later sync can need.

    Args:
        wal_positions: of earlier syncs, oldest first.
        position: a WAL position, and the next xid64 to be assigned, read after it.
        watermark: where the next sync resumes.
    """
    kept = [*wal_positions, position]
    usable = [place for place, (_, next_xid) in enumerate(kept) if next_xid <= watermark]
    kept = kept[usable[-1] :] if usable else kept
    # What lies between may be forgotten: a map from an earlier position names the same blocks, and more.
    return tuple(kept[: MOST_POSITIONS // 2] + kept[-(MOST_POSITIONS // 2) :] if len(kept) > MOST_POSITIONS else kept)


def start_position(wal_positions: Sequence[tuple[int, int]], watermark: int) -> int | None:
    """The WAL position after which every transaction at or above the watermark has written all that it wrote.

    None if no remembered position is known to be: a transaction was open then, and still is at the watermark.
    """
    return next((lsn for lsn, next_xid in reversed(wal_positions) if next_xid <= watermark), None)
