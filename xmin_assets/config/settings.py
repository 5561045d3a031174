"""How the work is done. Each setting is declared here and nowhere else.

The configuration file takes it under ``settings:``, and Dagster's resource is generated from it
(`orchestration/resources.py`). Those worth trying out are offered on the command line, too (`cli/options.py`).
"""

# Descriptions are arguments and not docstrings below the fields: pydantic would read its own source for those at
# every start, which costs more than the rest of this module.
from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from xmin_assets.config.base import Strict
from xmin_assets.config.load_window import Hours, LoadWindow
from xmin_assets.config.rates import bytes_per_second

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
    max_read_rate: str | None = Field(
        default=None,
        description="What a sync reads from the source in a second at most, all its tables and workers together, "
        "such as `50 MiB/s`: blocks of tables and their TOAST. Default: no limit.",
    )
    max_load_rate: str | None = Field(
        default=None,
        description="What a sync writes to the target by COPY in a second at most, all its tables and workers "
        "together, such as `50 MiB/s`. Default: no limit.",
    )

    courtesy: bool = Field(
        default=False,
        description="Whether reading slows down and stops while the source has much to do: by its active sessions, the "
        "age of its oldest snapshot, and how far its standbys are behind.",
    )
    load_window: str | None = Field(
        default=None,
        description="The hours in which loads by chunks read, such as `22:00-06:00 Europe/Berlin` (UTC without a "
        "place). Outside of them a load stops after its chunk, and the next sync in them goes on.",
    )
    quiet_hours: str | None = Field(
        default=None,
        description="The hours in which loads by chunks do not read: the opposite of `load_window`, written alike.",
    )

    # By a validator of the model and not of the field's type: Dagster's resource takes the type, and lets it hold an
    # environment variable until a run uses it.
    @field_validator("max_read_rate", "max_load_rate", mode="before")
    @classmethod
    def _is_rate(cls, value: object) -> object:
        if value is not None:
            bytes_per_second(str(value))
        return value

    @field_validator("load_window", "quiet_hours", mode="before")
    @classmethod
    def _are_hours(cls, value: object) -> object:
        if value is not None:
            Hours.parse(str(value))
        return value

    @property
    def window(self) -> LoadWindow | None:
        """When loads by chunks may read; None is always."""
        hours = self.load_window or self.quiet_hours
        return LoadWindow(Hours.parse(hours), inside=self.load_window is not None) if hours else None

    @property
    def read_rate(self) -> float | None:
        """Bytes that a sync may read from the source in a second; None is no limit."""
        return bytes_per_second(self.max_read_rate) if self.max_read_rate else None

    @property
    def load_rate(self) -> float | None:
        """Bytes that a sync may write to the target by COPY in a second; None is no limit."""
        return bytes_per_second(self.max_load_rate) if self.max_load_rate else None

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.min_workers > self.max_workers:
            raise ValueError(f"min_workers {self.min_workers} is above max_workers {self.max_workers}")
        if self.load_window and self.quiet_hours:
            raise ValueError("load_window and quiet_hours exclude each other; keep one")
        return self
