"""What a station says about its work: frozen facts with a JSON form, handed to the next station.

Each manifest holds the one before it, so that any station can run from its upstream's manifest alone, in
another process or on another day. Every xid is an xid64, every size is in bytes, every time in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from xmin_assets.config import Mode, TableConfig
from xmin_assets.errors import SpoolError
from xmin_assets.postgres.types import UserType

Manifest = TypeVar("Manifest")


@dataclass(frozen=True)
class Column:
    """A column to be copied. `attnum` is what identifies it: names and types change."""

    attnum: int
    name: str
    type: str
    """As format_type() prints it, schema-qualified where it is not of pg_catalog."""
    virtual: str | None = None
    """The expression of a virtual generated column."""
    collation: str | None = None
    """Quoted and qualified, if it is not the type's own."""
    origin: str | None = None
    """The type at the source, where the target's is another one."""
    override: str | None = None
    """The type that the configuration asks for in the target, where it is not the source's."""
    compared_as: str | None = None
    """What a value is converted to at the source, so that it prints as in the target, where that is not `override`."""
    equality: str | None = ""
    """What tells its values apart at the source besides the type (see `catalog.Attribute`)."""

    @property
    def source_type(self) -> str:
        """The type at the source."""
        return self.origin or self.type


@dataclass(frozen=True)
class Leaf:
    """A relation that stores rows: the table itself, or a leaf partition of it."""

    oid: int
    relfilenode: int
    schema: str
    name: str
    attnums: tuple[tuple[int, int], ...] = ()
    """Columns of the table that have another number here: their number in the table, and here."""


@dataclass(frozen=True)
class Identity:
    """Which cluster, history, database and relation the rows came from."""

    system_identifier: str
    timeline: int
    database_oid: int
    relation_oid: int
    leaves: tuple[Leaf, ...]
    """None for a view: it stores no rows that have an xmin."""
    kind: str = "r"
    """pg_class.relkind."""
    definition: str = ""
    """A digest of a view's query."""
    database: str = field(default="", compare=False)
    """Its name, for people: a database that is renamed is the same one."""


@dataclass(frozen=True)
class Terms:
    """What gives the where clause, and the expressions of virtual columns, their meaning beside their own text."""

    path: tuple[str, ...] = ()
    """Schemas in which the where clause finds functions, operators and types, beside pg_catalog; none without one."""
    columns: tuple[Column, ...] = ()
    """Those that may be named, copied or not."""
    types: tuple[UserType, ...] = ()
    """What the types of these columns, and those that may be named, are made of."""


@dataclass(frozen=True)
class TypeMap:
    """Which label or attribute of the target's type stands for which of the source's.

    By pg_enum.oid or pg_attribute.attnum, which stay when a label or an attribute is renamed, on either side.
    """

    schema: str
    name: str
    oid: int
    """Of the type at the source."""
    target_oid: int
    """Of the type in the target; 0 until it is made."""
    parts: tuple[tuple[int, int], ...]
    """At the source, and in the target; 0 until it is made there."""


@dataclass(frozen=True)
class Selection:
    """What of the table is copied, and how rows are recognised."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """Empty where rows have no key, and only the contents as a whole can be compared."""
    where: str | None
    deletes: str
    cursor: str | None = None
    """The column by which changed rows are found, where it is not done by xmin."""
    types: tuple[UserType, ...] = ()
    """What the columns' types are made of, as far as it is not PostgreSQL's own; in order of creation."""
    printed_types: tuple[UserType, ...] = ()
    """Likewise for the columns that `type_overrides` stores as something else: what is stored is how these print."""
    terms: Terms = Terms()
    xmin_column: str = "source_xmin"
    deleted_at_column: str = "source_deleted_at"
    block_column: str | None = None
    """Where the target keeps a row's block at the source; None where it does not."""
    unique_key: bool = True
    """Whether the source guarantees that the key identifies a row: at the source, or as the target tells keys apart.
    Where it does not, that is proven by whichever sync brings rows."""

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The key's columns, in the order of the key."""
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.key)

    @property
    def staged_columns(self) -> list[str]:
        """What a row of the extract's files has, in order: the columns, the row's xid64, and perhaps its block."""
        own = [self.xmin_column, self.block_column] if self.block_column else [self.xmin_column]
        return [*(column.name for column in self.columns), *own]


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


@dataclass(frozen=True)
class Unflushed:
    """Where the next sync could resume, were it known that the source's WAL is on its disk so far."""

    watermark: int
    lsn: int
    """The WAL position that must be on disk."""
    pair: tuple[int, int] | None
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
    source_lsn: int
    """WAL position of the source, in bytes, that covers every commit the last sync saw."""
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
    pairs: tuple[tuple[int, int], ...] = ()
    """WAL positions, each with the next xid64 to be assigned as it was read after it; oldest first."""
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
    statements: tuple[str, ...] = ()
    """What will be created and altered in the target before rows are merged, in SQL."""
    map_from: int | None = None
    """The WAL position since which changed blocks are told; None where every block is read."""
    path: str = ""
    """Which blocks are read, and why, in words."""
    another_source: str | None = None
    """Which source has taken the place of which, in words: the merge then makes sure that it has the same rows."""


@dataclass(frozen=True)
class Settled:
    """A WAL position that covers a snapshot of the source, and is on its disk: no crash can undo what that shows."""

    snapshot: str
    """As pg_current_snapshot() writes it."""
    started: str
    """See `Server.started`."""
    lsn: int


@dataclass(frozen=True)
class SourceSnapshot:
    """What one sync is going to read, and why."""

    sync_id: str
    table: str
    config: TableConfig
    identity: Identity
    read: Selection
    """As the source has it."""
    selection: Selection
    """As it lands in the target: with the types and collations that the columns get there."""
    horizon: int
    """Every transaction below it was finished when the sync was planned."""
    rows_estimate: int
    bytes: int
    portable: bool
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
    settled: Settled | None = None
    """Of the source as it was first looked at; None on a standby, and if not all was on disk."""
    target_types: tuple[UserType, ...] = ()
    """Those of the target, as far as it had them, that stand for the enums and composites of the source."""
    borrowed: tuple[UserType, ...] = ()
    """See `State`."""

    @property
    def base(self) -> tuple[int, str] | None:
        """The revision of the state that the plan started from, and the sync that made it; None for no state.

        Where the target was put back to an earlier day, another sync may have made a revision of the same number.
        """
        return (self.state.revision, self.state.sync_id) if self.state else None


@dataclass(frozen=True)
class Part:
    """One CSV file in the spool."""

    uri: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class BlockRange:
    """Blocks of a relation's file, from `start` to before `end`."""

    filenode: int
    """pg_class.relfilenode of the table or leaf partition."""
    start: int
    end: int


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
    source_lsn: int
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
    path: str = ""
    """Which blocks were read, and why, in words."""
    pairs: tuple[tuple[int, int], ...] = ()
    """See `State`."""
    scan_seconds: float = 0.0
    """What it took to read every block; 0 where that was not done."""
    null_cursors: int = 0
    """Rows read whose cursor is NULL: they are read by every sync."""
    unflushed: Unflushed | None = None
    """See `State`."""


@dataclass(frozen=True)
class MadeTypes:
    """Enums and composites of the columns, as the target has them for this sync."""

    maps: tuple[TypeMap, ...] = ()
    there: tuple[UserType, ...] = ()
    """In the target."""


@dataclass(frozen=True)
class StagedTable:
    """The extract, loaded and checked in the target database."""

    extract: CsvExtract
    name: str | None
    """Name of the staged table in the target's schema xmin_assets; None where nothing had to be staged."""
    keys_name: str | None
    rows: int
    keys: int
    seconds: float
    types: MadeTypes | None = None
    """By which the files were loaded; None where nothing was."""
    target_started: str | None = None
    """Which start of the target server it was made in (see `Server.started`)."""


@dataclass(frozen=True)
class MergedTarget:
    """What the merge did to the target table."""

    sync_id: str
    table: str
    target: str
    mode: Mode
    reason: str
    inserted: int
    updated: int
    deleted: int
    unchanged: int
    """Staged rows that the target already had."""
    rows: int
    """Rows that the target now shares with the source."""
    watermark: int
    watermark_before: int | None
    max_xmin: int
    rows_extracted: int
    bytes_extracted: int
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()
    seconds: float = 0.0
    repeated: bool = False
    """True if this sync had been merged before and nothing was done now."""


Station = Literal["snapshot", "extract", "stage", "merge", "verify"]
"""What is being done to a table; `verify` is a command of its own."""


@dataclass(frozen=True)
class TableResult:
    """How one table's sync ended: the row that `xmin-assets sync --json` prints for it."""

    table: str
    status: Literal["success", "failed"]
    mode: str | None = None
    reason: str | None = None
    rows_extracted: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    max_xmin: int = 0
    watermark: int = 0
    path: str | None = None
    blocks_changed: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class SyncReport:
    """How the syncs of all tables ended."""

    tables: tuple[TableResult, ...]

    @property
    def ok(self) -> bool:
        """True if no table failed."""
        return all(table.status == "success" for table in self.tables)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def build(*kinds: type) -> None:
    """Prepare to read and write manifests of these kinds, which takes some milliseconds, once in a process."""
    for kind in kinds:
        _adapter(kind)


def to_json(manifest: object) -> bytes:
    """The JSON form of any manifest."""
    return _adapter(cast(Any, type(manifest))).dump_json(manifest)


def to_dict(manifest: object) -> dict[str, Any]:
    """The JSON form of any manifest, as plain Python values."""
    result: dict[str, Any] = _adapter(cast(Any, type(manifest))).dump_python(manifest, mode="json")
    return result


def from_json(kind: type[Manifest], data: bytes | str) -> Manifest:
    """Read a manifest back.

    Raises:
        SpoolError: the data is not such a manifest.
    """
    try:
        result: Manifest = _adapter(cast(Any, kind)).validate_json(data)
    except ValidationError as error:
        raise SpoolError(
            f"A manifest in the spool is not a {kind.__name__} of this version ({error.error_count()} problems). "
            "Run the sync again from its first station."
        ) from None
    return result
