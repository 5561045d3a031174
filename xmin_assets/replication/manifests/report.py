"""The result of a sync of one table or of many, for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Station = Literal["snapshot", "extract", "stage", "merge", "verify"]
"""What is being done to a table; `verify` is a command of its own."""


@dataclass(frozen=True)
class TableResult:
    """How one table's sync ended: the row that `xmin-assets sync --json` prints for it."""

    table: str
    status: Literal["success", "paused", "failed"]
    """Paused is a load by chunks that waits for its hours; `reason` says until when."""
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
        return all(table.status != "failed" for table in self.tables)
