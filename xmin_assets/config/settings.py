"""How the work is done. Each setting is declared here and nowhere else.

The configuration file takes it under ``settings:``, and Dagster's resource is generated from it
(`orchestration/resources.py`). Those worth trying out are offered on the command line, too (`cli/options.py`).
"""

# Descriptions are arguments and not docstrings below the fields: pydantic would read its own source for those at
# every start, which costs more than the rest of this module.
from __future__ import annotations

from pydantic import Field, model_validator

from xmin_assets.config.base import Strict

HISTORY_ROWS = 1000


class Settings(Strict):
    """How the work is done; the same for all tables."""

    workers: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Connections that read or load one table at the same time. "
        "Default: a recommendation from CPU and memory.",
    )
    min_workers: int = Field(default=2, ge=1, le=64, description="The recommendation is never below this.")
    max_workers: int = Field(default=8, ge=1, le=64, description="The recommendation is never above this.")
    batch_size: int = Field(
        default=1000,
        ge=1,
        description="Rows that one COPY statement reads; small batches are joined up to 4 MiB of table.",
    )
    spool: str | None = Field(
        default=None,
        description="Directory or object-store URL for CSV parts and manifests. "
        "Default: a private folder in the user's cache.",
    )
    statement_timeout: float = Field(
        default=3600, ge=0, description="Seconds that one statement may take on either server; 0 is no limit."
    )
    lock_timeout: float = Field(
        default=30, ge=0, description="Seconds to wait for a lock on a table on either server; 0 is no limit."
    )
    queue_timeout: float = Field(
        default=120, ge=0, description="Seconds to wait while another sync of the same table is at work."
    )
    connect_timeout: int = Field(default=10, ge=1, description="Seconds to wait for a connection.")
    held_back_warning: float = Field(
        default=900,
        ge=0,
        description="Age in seconds from which a transaction left open at the source is warned of: "
        "it holds the watermark back.",
    )
    history_rows: int = Field(
        default=HISTORY_ROWS, ge=1, description="Merges per table that the target remembers in `xmin_assets.history`."
    )
    max_snapshot_age: float = Field(
        default=4 * 3600,
        ge=1,
        description="Seconds that one extract may hold its snapshot, which holds back vacuum at the source.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.min_workers > self.max_workers:
            raise ValueError(f"min_workers {self.min_workers} is above max_workers {self.max_workers}")
        return self
