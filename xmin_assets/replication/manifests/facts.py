"""What a decision is made from: the source table and the target table as they were seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from xmin_assets.postgres.catalog import Attribute
from xmin_assets.postgres.server import Server
from xmin_assets.postgres.types import UserType
from xmin_assets.replication.manifests.table import Identity, Selection, TypeMap


@dataclass(frozen=True)
class SourceFacts:
    """The source table, as seen under one snapshot."""

    server: Server
    """Read before the snapshot was taken."""
    identity: Identity
    selection: Selection
    """As the source has it; for `decide`, as it lands in the target."""
    horizon: int


@dataclass(frozen=True)
class TargetFacts:
    """The target table. `oid` is None if there is none."""

    oid: int | None
    columns: tuple[Attribute, ...] = ()
    has_rows: bool = False
    now: datetime | None = None
    """When it was looked at."""
    types: tuple[TypeMap, ...] = ()
    """Of enums and composites of the columns, as the sync will have made them."""
    borrowed: tuple[UserType, ...] = ()
    """Enums and composites that its columns have, though not as the source's (see `borrowed_types`)."""
