"""WAL positions that a target remembers, each with the next transaction id after it."""

from __future__ import annotations

from collections.abc import Sequence

from xmin_assets.replication.manifests.state import WalPosition

MOST_POSITIONS = 64
"""Positions that are remembered. Fewer would do if no transaction ever stayed open for days."""


def lsn_text(lsn: int) -> str:
    """Write a WAL position as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def remember_position(
    remembered: Sequence[WalPosition], position: WalPosition, watermark: int
) -> tuple[WalPosition, ...]:
    """Add a position, and forget those that no later sync can need.

    Args:
        remembered: by earlier syncs, oldest first.
        position: of this sync.
        watermark: where the next sync resumes.
    """
    positions = [*remembered, position]
    usable = [index for index, known in enumerate(positions) if known.next_xid <= watermark]
    positions = positions[usable[-1] :] if usable else positions
    if len(positions) > MOST_POSITIONS:
        # What lies between may be forgotten: a map from an earlier position names the same blocks, and more.
        positions = positions[: MOST_POSITIONS // 2] + positions[-(MOST_POSITIONS // 2) :]
    return tuple(positions)


def start_position(remembered: Sequence[WalPosition], watermark: int) -> int | None:
    """Find the latest position after which every transaction at or above the watermark wrote all that it wrote.

    None if no remembered position is known to be one: a transaction was open then, and still is at the watermark.
    """
    return next((known.lsn for known in reversed(remembered) if known.next_xid <= watermark), None)
