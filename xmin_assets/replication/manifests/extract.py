"""What the extract station hands on: CSV files, and where the next sync resumes."""

from __future__ import annotations

from dataclasses import dataclass

from xmin_assets.postgres.wal_records import WalRecords
from xmin_assets.replication.manifests.plan import BlockRange, SourceSnapshot
from xmin_assets.replication.manifests.state import Unflushed, WalPosition


@dataclass(frozen=True)
class Part:
    """One CSV file in the spool."""

    uri: str
    rows: int
    bytes: int
    ranges: tuple[BlockRange, ...] = ()
    """The blocks whose rows it has, all of them; only of a load by chunks."""


@dataclass(frozen=True)
class BlockMap:
    """The blocks that changed since a WAL position."""

    ranges: tuple[BlockRange, ...]
    """Disjoint; they hold all blocks that changed, and perhaps some between them."""
    changed: int
    in_all: int
    """Blocks that the table has."""
    wal_bytes: int
    """WAL that was read because it was not summarized."""


@dataclass(frozen=True)
class CsvExtract:
    """The rows and keys read under one snapshot, as CSV files."""

    snapshot: SourceSnapshot
    parts: tuple[Part, ...]
    key_parts: tuple[Part, ...] | None
    """All keys visible in the snapshot, or in the blocks of the map; None where they need not be compared."""
    rows: int
    bytes: int
    source_rows: int | None
    """Rows visible in the snapshot, changed or not (after the where clause); None where they were not counted."""
    max_xmin: int
    """Highest xid64 among the rows read; 0 for none."""
    horizon: int
    """The next watermark: every transaction below it had ended, and no crash can undo that."""
    source_lsn: int | None
    """WAL position of the source that covers the snapshot."""
    workers: int
    seconds: float
    key_bytes: int = 0
    source_started: str | None = None
    """See `Server.started`."""
    checksum: int | None = None
    """Of all rows visible in the snapshot, where the plan asks for it (see `checksum.row_hash`)."""
    cursor: str | None = None
    """The highest value of the cursor column, now or before, as text."""
    block_map: BlockMap | None = None
    """The blocks that were read; None where all were."""
    blocks_read: str = ""
    """Which blocks were read, and why, in words."""
    wal_positions: tuple[WalPosition, ...] = ()
    """See `State`."""
    scan_seconds: float = 0.0
    """What it took to read every block; 0 where that was not done."""
    null_cursors: int = 0
    """Rows read whose cursor is NULL: they are read by every sync."""
    unflushed: Unflushed | None = None
    """See `State`."""
    wal_records: WalRecords | None = None
    """See `State`."""
