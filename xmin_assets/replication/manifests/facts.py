"""What a decision is made from: the source table and the target table as they were seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from xmin_assets.postgres.catalog import Attribute
from xmin_assets.postgres.server import Server
from xmin_assets.postgres.types import UserType
from xmin_assets.postgres.user_triggers import UserCode
from xmin_assets.replication.manifests.table import NO_COMMENTS, Comments, Identity, Selection, TypeMap


@dataclass(frozen=True)
class SourceFacts:
    """The source table, as seen under one snapshot."""

    server: Server
    """Read before the snapshot was taken."""
    identity: Identity
    selection: Selection
    """What is copied, as the source has it."""
    horizon: int
    """The xid64 below which every transaction is finished."""
    filled: frozenset[str] = frozenset()
    """Columns that have a value in rows which nobody has written since they were added (see `Storage.filled`)."""
    comments: Comments = NO_COMMENTS
    proven_start: str | None = None
    """The start of the server after which its WAL was found to have what the last sync saw; None: not looked, or not
    found."""
    unproven_wal: str | None = None
    """Why its WAL does not prove that, in words."""


@dataclass(frozen=True)
class PrimaryKey:
    """The primary key of a target table."""

    constraint: str
    columns: Sequence[str]


@dataclass(frozen=True)
class TargetKeys:
    """What identifies the rows of a target table."""

    unique: tuple[tuple[str, ...], ...] = ()
    """The columns of its primary key, and of unique indexes over NOT NULL columns."""
    primary: PrimaryKey | None = None


@dataclass(frozen=True)
class TargetFacts:
    """The target table."""

    oid: int | None
    """None if there is no such table."""
    columns: tuple[Attribute, ...] = ()
    has_rows: bool = False
    """Whether a table that no sync has left has rows. Nobody looks into any other one for it."""
    keys: TargetKeys = TargetKeys()
    code: tuple[UserCode, ...] = ()
    """Triggers and rules of its users that fire in a merge."""
    now: datetime | None = None
    """When it was looked at."""
    types: tuple[TypeMap, ...] = ()
    """Of enums and composites of the columns, as the sync will have made them."""
    borrowed: tuple[UserType, ...] = ()
    """Enums and composites that its columns have, though not as the source's (see `borrowed_types`)."""
