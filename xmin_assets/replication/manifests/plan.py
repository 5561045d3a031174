"""What the snapshot station hands on: the decision for one sync, and the facts behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xmin_assets.config import Mode, TableConfig
from xmin_assets.postgres.types import UserType
from xmin_assets.replication.manifests.operations import AddKey, ColumnOperation, DropKey
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import NO_COMMENTS, Comments, Identity, Selection


@dataclass(frozen=True)
class Holder:
    """A transaction at the source that is still open."""

    kind: Literal["session", "prepared"]
    name: str
    """The backend's process id, or the prepared transaction's gid."""
    xid: int
    """The 32-bit id, as pg_stat_activity and pg_prepared_xacts show it."""
    seconds: float | None
    """Age of the transaction; None where the role may not see it."""


@dataclass(frozen=True)
class HeldBack:
    """How far open transactions hold the horizon back: what they hold is read again by every sync until they end."""

    transactions: int
    """Transactions begun since the oldest one that is still open."""
    by: tuple[Holder, ...] = ()
    """The oldest ones, oldest first."""

    @property
    def seconds(self) -> float:
        """Age of the oldest open transaction that the role may see; 0 for none."""
        return max((holder.seconds or 0.0 for holder in self.by), default=0.0)


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Blocks of a relation's file, from `start` to before `end`."""

    filenode: int
    """pg_class.relfilenode of the table or leaf partition."""
    start: int
    end: int


@dataclass(frozen=True)
class Chunk:
    """A piece of a load: the blocks that are read under one snapshot."""

    below: int
    """Only row versions with an xid64 below it are read: all of their transactions had ended when the load began."""
    ranges: tuple[BlockRange, ...]


@dataclass(frozen=True)
class PlannedLoad:
    """A full sync that is read in chunks, each under a snapshot of its own."""

    chunks: int
    """That are still to be read."""
    bytes: int
    """Of the table, when the load began."""
    loaded_bytes: int = 0
    """Of the table, in blocks whose rows are loaded already."""
    loaded_rows: int = 0
    load_id: str | None = None
    """Of the load under way that the sync goes on with; None: it begins one."""


@dataclass(frozen=True)
class ClosedLoad:
    """What the closing sync of a load ends."""

    planned: SourceSnapshot
    """The full sync that it was planned as."""
    rows: int
    """That were loaded by chunks."""
    csv_bytes: int


@dataclass(frozen=True)
class Plan:
    """The decision for one sync, made before anything is copied."""

    mode: Mode
    reason: str
    watermark: int | None = None
    """Rows with an xid64 at or above it are read; None: not by xmin."""
    cursor_from: str | None = None
    """Rows whose cursor is at or above it, less the lookback, are read; None: not by a cursor."""
    full_leaves: tuple[int, ...] = ()
    """Leaf oids that an incremental sync reads in full."""
    compare_values: bool = False
    """Whether the merge compares values, or only source_xmin."""
    checksum: bool = False
    """Whether the merge proves that source and target are equal as wholes."""
    create_target: bool = False
    """Whether the staged table becomes the target."""
    find_deletes: bool = True
    """Whether deleted rows are looked for, or it was done lately enough."""
    column_operations: tuple[ColumnOperation, ...] = ()
    """What is done to the columns of a target that exists, in order. The merge does this, or refuses the plan."""
    drop_key: DropKey | None = None
    """The key that goes before rows are merged."""
    add_key: AddKey | None = None
    """The key that comes when rows are merged."""
    statements: tuple[str, ...] = ()
    """All that will be created and altered in the target, in SQL, for people."""
    map_from: int | None = None
    """The WAL position since which changed blocks are read; None where every block is read."""
    blocks_read: str = ""
    """Which blocks are read, and why, in words."""
    triggers: tuple[str, ...] = ()
    """Triggers and rules that users have put on the target and that fire in the merge, for people."""
    dropped_along: tuple[str, ...] = ()
    """Indexes, constraints and statistics of the target that go with columns that are dropped, for people."""
    unproven: str | None = None
    """Why nothing proves that the source is the one of the last sync, where `checksum` is to show it."""
    proven_start: str | None = None
    """See `SourceFacts`: the extract is made under that start of the source."""
    chunk: Chunk | None = None
    """The part of the table that is read; None: the whole table."""
    another_source: str | None = None
    """Which source has taken the place of which, in words: the merge then makes sure that it has the same rows."""


@dataclass(frozen=True)
class FlushedSnapshot:
    """A WAL position that covers a snapshot of the source, and is on its disk: no crash can undo what that shows."""

    snapshot: str
    """As pg_current_snapshot() writes it."""
    started: str | None
    """See `Server.started`."""
    lsn: int


@dataclass(frozen=True)
class SourceSnapshot:
    """What one sync is going to read, and why."""

    sync_id: str
    table: str
    config: TableConfig
    identity: Identity
    source_selection: Selection
    """As the source has it."""
    target_selection: Selection
    """As the target has it: with the types and collations that the columns get there."""
    horizon: int
    """Every transaction below it was finished when the sync was planned."""
    rows_estimate: int
    bytes: int
    encodings_differ: bool
    """Whether the two databases have different encodings."""
    target: tuple[str, int]
    """System identifier and database oid of the target that was looked at: only there may the sync be merged."""
    target_oid: int | None
    """The target table that was looked at; None if there was none."""
    held_back: HeldBack
    oldest_age: int
    """Age in transactions of the source's oldest one that may still be unfrozen."""
    state: State | None
    plan: Plan
    seconds: float
    flushed: FlushedSnapshot | None = None
    """Of the source as it was first looked at; None on a standby, and if not all was on disk."""
    target_types: tuple[UserType, ...] = ()
    """Those of the target, as far as it had them, that stand for the enums and composites of the source."""
    borrowed: tuple[UserType, ...] = ()
    """See `State`."""
    comments: Comments = NO_COMMENTS
    load: PlannedLoad | None = None
    """How the table is read in chunks; None: under one snapshot."""
    closes: ClosedLoad | None = None
    """The load that this sync closes: it is merged into the load's table, and that into the target."""

    @property
    def asked_for(self) -> SourceSnapshot:
        """What people know the sync as: the full sync, where this one closes its load."""
        return self.closes.planned if self.closes else self

    @property
    def base(self) -> tuple[int, str] | None:
        """The state that the plan started from, see `State.base`; None for no state."""
        return self.state.base if self.state else None
