"""What the stage and merge stations hand on: the staged table, and the merged target."""

from __future__ import annotations

from dataclasses import dataclass

from xmin_assets.config import Mode
from xmin_assets.postgres.types import UserType
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.table import Column, TypeMap


@dataclass(frozen=True)
class MadeTypes:
    """Enums and composites of the columns, as the target has them for this sync."""

    maps: tuple[TypeMap, ...] = ()
    in_target: tuple[UserType, ...] = ()
    """The types themselves."""


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
