"""What the target remembers of a table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from xmin_assets.postgres.types import UserType
from xmin_assets.postgres.wal_records import WalRecords
from xmin_assets.replication.manifests.table import Identity, Selection, TypeMap


@dataclass(frozen=True)
class WalPosition:
    """A WAL position of the source, and the next transaction id to be assigned, read after it.

    Whatever has this id or a later one has written nothing before the position.
    """

    lsn: int
    """In bytes."""
    next_xid: int
    """An xid64."""


@dataclass(frozen=True)
class Unflushed:
    """Where the next sync could resume if the source's WAL is on its disk up to `lsn`."""

    watermark: int
    lsn: int
    """The WAL position that must be on disk."""
    position: WalPosition | None
    """Of `State.pairs`; None where rows have no xmin."""


@dataclass(frozen=True)
class State:
    """What the target remembers of a table: its last merged sync."""

    revision: int
    sync_id: str
    watermark: int
    resync: str | None
    """Why the next sync must read everything; None where it need not."""
    max_xmin: int
    rows: int
    """Rows that the target shares with the source (soft-deleted ones do not count)."""
    source_lsn: int | None
    """WAL position of the source, in bytes, that covers every commit the last sync saw; None where the source does not
    tell."""
    target_oid: int
    source_table: str
    identity: Identity
    selection: Selection
    merged_at: datetime
    source_started: str | None = None
    """Which start of the source server that was, see `Server.started`."""
    cursor: str | None = None
    """The highest value of the cursor column that was seen, as text."""
    unflushed: Unflushed | None = None
    """What the last sync saw beyond `watermark`, if a crash of the source could still undo it."""
    reused_below: int = 0
    """Rows may bear ids up to this one that another history of the source has given out, too."""
    wal_positions: tuple[WalPosition, ...] = ()
    """Positions from which the changed blocks may be found; oldest first."""
    scan_seconds: float = 0.0
    """What the last extract took that read every block; 0 where there was none."""
    deletes_left: bool = False
    """Whether the last sync left rows in the target that had been deleted at the source."""
    deletes_compared_at: datetime | None = None
    """When it was last made sure that rows deleted at the source are gone from the target; None: by every sync."""
    types: tuple[TypeMap, ...] | None = None
    """What the stored values of enums and composites are of, and what may be in columns that are only kept.

    None where that is not known.
    """
    borrowed: tuple[UserType, ...] = ()
    """Enums and composites of the target that its columns have, though not as the source's (see `borrowed_types`)."""
    wal_records: WalRecords | None = None
    """The source's last ones before `source_lsn`; None where it does not show them, or all was not on its disk."""

    @property
    def base(self) -> tuple[int, str]:
        """What a plan that starts from this state knows it by: its revision, and the sync that made it.

        Where the target was put back to an earlier day, another sync may have made a revision of the same number.
        """
        return self.revision, self.sync_id
