"""What may be said of a table."""

# Descriptions are arguments and not docstrings below the fields: pydantic would read its own source for those at
# every start, which costs more than the rest of this module.
from __future__ import annotations

import math
from enum import Enum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from xmin_assets.config.base import Strict
from xmin_assets.config.dagster import Translation
from xmin_assets.config.deletes import DeleteDetection, Deletes, interval_of
from xmin_assets.config.durations import seconds
from xmin_assets.config.sizes import size_of
from xmin_assets.errors import ConfigError
from xmin_assets.postgres.expression import expression_error
from xmin_assets.postgres.identifiers import NAMEDATALEN, SYSTEM_COLUMNS, QualifiedName


class Mode(str, Enum):
    """How a table is read."""

    XMIN_INCREMENTAL = "xmin_incremental"
    INCREMENTAL_SYNC = "incremental_sync"
    FULL_SYNC = "full_sync"


class Triggers(str, Enum):
    """What becomes of the triggers and rules that users have put on a target."""

    FIRE = "fire"
    """They fire, as they do for anybody's statements."""
    SKIP = "skip"
    """They do not, unless they are enabled for replicas or always."""


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Columns = Annotated[tuple[str, ...], BeforeValidator(_one_or_many, json_schema_input_type=str | tuple[str, ...])]
"""Names of columns, or the one name."""


class TableDefaults(Strict):
    """What may be said for one table, and under ``defaults:`` for all."""

    mode: Mode = Field(
        default=Mode.XMIN_INCREMENTAL,
        description="`xmin_incremental` reads the rows changed since the last sync; `incremental_sync` those whose "
        "`cursor` column is as high as the highest seen; `full_sync` reads everything every time.",
    )
    key: Columns | None = Field(
        default=None,
        description="Columns that identify a row. Default: the primary key, else a unique NOT NULL constraint.",
    )
    cursor: str | None = Field(
        default=None, description="For `incremental_sync`: the column that rises whenever a row changes."
    )
    cursor_lookback: str | int | float | None = Field(
        default=None,
        description="For `incremental_sync`: how far below the highest cursor seen rows are read again, because they "
        "may have been committed late: an interval such as `10 minutes` (a number is seconds), or a number for a "
        "cursor that is one.",
    )
    deletes: Deletes = Field(
        default=Deletes.HARD,
        description="What becomes of rows deleted at the source: deleted, marked in `source_deleted_at`, left alone.",
    )
    delete_detection: DeleteDetection | float = Field(
        default=DeleteDetection.EVERY_SYNC,
        description="How often deleted rows are looked for: by every sync, or at most once in a time such as `1 hour`.",
    )
    columns: Columns | None = Field(default=None, description="Copy only these columns.")
    exclude_columns: Columns = Field(default=(), description="Copy all columns but these.")
    where: str | None = Field(
        default=None,
        description="A boolean SQL expression over the source row. "
        "A row that stops fulfilling it is deleted from the target.",
    )
    type_overrides: dict[str, str] = Field(
        default={},
        description="Other types for columns in the target, such as `text`; their input must accept what the "
        "source's type prints.",
    )
    schema_changes: Literal["apply", "fail"] = Field(
        default="apply", description="Whether changes of the source's columns and types are carried over or refused."
    )
    convert: Literal["cast", "refill"] | tuple[str, ...] = Field(
        default="cast",
        description="What becomes of a column whose values PostgreSQL does not convert to its new type by itself: with "
        "`cast` the sync is refused, with `refill` its values are read again from the source. Or a list of columns: "
        "theirs are read again whenever their type changes.",
    )
    dropped_columns: Literal["keep", "drop"] = Field(
        default="keep",
        description="What becomes of a target column that is no longer copied: kept, its values as they are and new "
        "ones NULL, or dropped.",
    )
    triggers: Triggers = Field(
        default=Triggers.FIRE,
        description="Whether triggers and rules that users have put on the target fire in the merge. `skip` needs the "
        "right to set session_replication_role, and skips the checks of foreign keys, too.",
    )
    xmin_column: str = Field(
        default="source_xmin", description="The target column for the 64-bit id of the source row's transaction."
    )
    deleted_at_column: str = Field(
        default="source_deleted_at", description="The target column that marks soft deletes."
    )
    track_blocks: bool = Field(
        default=False,
        description="Keep the source's block of every row in the target, so that deleted rows are found in the blocks "
        "that changed (with PostgreSQL 17's WAL summaries).",
    )
    block_column: str = Field(default="source_block", description="The target column for `track_blocks`.")
    wal_summaries: bool = Field(
        default=True, description="Read only the blocks that the source's WAL summaries name, where they can be used."
    )
    checkpoint: bool = Field(
        default=False,
        description="Let a sync order a CHECKPOINT at the source, so that the summaries reach the present without the "
        "extension pg_walinspect. The role needs pg_checkpoint.",
    )
    adopt: bool = Field(
        default=False, description="Take over a target table that has rows and was not made by this project."
    )
    max_delete_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="The share of the target's rows (0 to 1) that one sync may delete, "
        "for targets of 1000 rows or more.",
    )
    max_change_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="The share of the target's rows (0 to 1) that one sync may change or delete where another cluster, "
        "timeline, database or table has taken the source's place, for targets of 1000 rows or more.",
    )

    load_chunk: str | int = Field(
        default="4 GiB",
        description="The size of what a full sync reads under one snapshot: a larger table is loaded in chunks of this "
        "size, and a load that was cut off goes on after the last one. Such as `256 MiB`; a number is bytes.",
    )
    translation: Translation | None = Field(
        default=None,
        description="What the table's assets are called and look like in Dagster; it goes before that for all tables.",
    )

    @field_validator("delete_detection", mode="before", json_schema_input_type=str | float)
    @classmethod
    def _interval(cls, value: object) -> object:
        return seconds(value) if isinstance(value, (str, int, float)) and value not in [*DeleteDetection] else value

    @field_validator("load_chunk")
    @classmethod
    def _is_a_size(cls, value: str | int) -> str | int:
        size_of(value)
        return value

    @field_validator("convert", mode="before")
    @classmethod
    def _a_word_or_columns(cls, value: object) -> object:
        if isinstance(value, str) and value not in ("cast", "refill"):
            raise ValueError("must be cast, refill, or a list of columns to refill")
        return value

    @field_validator("key", "columns")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise ValueError("names no column")
        if value is not None and len(set(value)) != len(value):
            raise ValueError("names a column twice")
        return value

    @field_validator("xmin_column", "deleted_at_column", "block_column")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not value or "\0" in value or len(value.encode()) >= NAMEDATALEN:
            raise ValueError(f"must be a column name of 1 to {NAMEDATALEN - 1} bytes")
        if value in SYSTEM_COLUMNS:
            raise ValueError(f"is {value!r}, the name of a system column; take another")
        return value

    @field_validator("cursor_lookback")
    @classmethod
    def _looks_back(cls, value: str | int | float | None) -> str | int | float | None:
        if isinstance(value, (int, float)) and not 0 <= value < math.inf:
            raise ValueError("must be a number that is not negative, or an interval such as 10 minutes")
        return value

    @field_validator("where")
    @classmethod
    def _is_one_expression(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is empty; leave it out to copy all rows")
        if value is not None and (problem := expression_error(value)):
            raise ValueError(f"must be one boolean expression, and {problem}")
        return value


class TableConfig(TableDefaults):
    """One table to keep a copy of."""

    source: str = Field(description="The table at the source, as schema.table.")
    target: str = Field(default="", description="The table in the target database. Default: the source's name.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: object) -> object:
        return {"source": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _names_parse(self) -> TableConfig:
        try:
            QualifiedName.parse(self.source)
            if self.target:
                QualifiedName.parse(self.target)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if self.columns is not None and self.exclude_columns:
            raise ValueError("columns and exclude_columns exclude each other; keep one")
        if self.mode is Mode.INCREMENTAL_SYNC and self.cursor is None:
            raise ValueError("mode incremental_sync needs cursor: the column that rises whenever a row changes")
        if len({self.xmin_column, self.deleted_at_column, self.block_column}) < 3:
            raise ValueError("xmin_column, deleted_at_column and block_column must differ")
        if self.track_blocks and self.mode is not Mode.XMIN_INCREMENTAL:
            raise ValueError(f"track_blocks goes with mode xmin_incremental, not with {self.mode.value}")
        return self

    # A table is known by its names; a mapping among its fields has no hash.
    def __hash__(self) -> int:
        return hash((self.source, self.target))

    def refills(self, column: str, *, is_converted: bool) -> bool:
        """Return whether the values of a column that gets another type are read again.

        Args:
            column: its name.
            is_converted: whether PostgreSQL converts them by itself.
        """
        if isinstance(self.convert, str):
            return self.convert == "refill" and not is_converted
        return column in self.convert

    @property
    def load_chunk_bytes(self) -> int:
        """Bytes of a table that a full sync reads under one snapshot."""
        return size_of(self.load_chunk)

    @property
    def delete_interval(self) -> float | None:
        """Seconds for which deleted rows need not be looked for again; None if every sync looks for them."""
        return interval_of(self.delete_detection)

    @property
    def source_name(self) -> QualifiedName:
        """The source table's name."""
        return QualifiedName.parse(self.source)

    @property
    def target_name(self) -> QualifiedName:
        """The target table's name."""
        return QualifiedName.parse(self.target or self.source)

    @property
    def label(self) -> str:
        """The name under which people know the table: the source's, with its schema."""
        return str(self.source_name)
