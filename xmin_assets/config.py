"""The configuration as people write it: a YAML file, the environment, and what they default to."""

from __future__ import annotations

import difflib
import os
import re
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from xmin_assets.errors import ConfigError
from xmin_assets.postgres.identifiers import QualifiedName

DEFAULT_CONFIG = Path("xmin_assets/defs/replication/defs.yaml")
SOURCE_XMIN = "source_xmin"
SOURCE_DELETED_AT = "source_deleted_at"

_ENV = re.compile(r"\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


class Mode(str, Enum):
    """How a table is read."""

    XMIN_INCREMENTAL = "xmin_incremental"
    FULL_SYNC = "full_sync"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True)


class TableDefaults(_Strict):
    """What may be said for one table, and under ``defaults:`` for all."""

    mode: Mode = Mode.XMIN_INCREMENTAL
    """`xmin_incremental` reads the rows changed since the last sync; `full_sync` reads everything every time."""
    key: tuple[str, ...] | None = None
    """Columns that identify a row. Default: the primary key, else a unique NOT NULL constraint."""
    deletes: Literal["hard", "soft", "ignore"] = "hard"
    """What becomes of rows deleted at the source: deleted, marked in `source_deleted_at`, or left alone."""
    columns: tuple[str, ...] | None = None
    """Copy only these columns."""
    exclude_columns: tuple[str, ...] = ()
    """Copy all columns but these."""
    where: str | None = None
    """A boolean SQL expression over the source row. A row that stops fulfilling it is deleted from the target."""
    schema_changes: Literal["apply", "fail"] = "apply"
    """Whether changes of the source's columns are carried over or refused."""
    adopt: bool = False
    """Take over a target table that has rows and was not made by this project."""
    max_delete_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of the target's rows (0 to 1) that one sync may delete, for targets of 1000 rows or more."""

    @field_validator("key", "columns", "exclude_columns", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("key", "columns")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise ValueError("names no column")
        if value is not None and len(set(value)) != len(value):
            raise ValueError("names a column twice")
        return value

    @field_validator("where")
    @classmethod
    def _where_says_something(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is empty; leave it out to copy all rows")
        return value


class TableConfig(TableDefaults):
    """One table to keep a copy of."""

    source: str
    """The table at the source, as schema.table."""
    target: str = ""
    """The table in the target database. Default: the source's name."""

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
            raise ValueError(str(error)) from None
        if self.columns is not None and self.exclude_columns:
            raise ValueError("columns and exclude_columns exclude each other; keep one")
        return self

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


class Settings(_Strict):
    """How the work is done; the same for all tables."""

    workers: Annotated[int, Field(ge=1, le=64)] | None = None
    """Connections that read or load one table at the same time. Default: a recommendation from CPU and memory."""
    min_workers: Annotated[int, Field(ge=1, le=64)] = 2
    """The recommendation is never below this."""
    max_workers: Annotated[int, Field(ge=1, le=64)] = 8
    """The recommendation is never above this."""
    batch_size: Annotated[int, Field(ge=1)] = 1000
    """Rows that one COPY statement reads; small batches are joined up to 1 MiB of table."""
    spool: str | None = None
    """Directory or object-store URL for CSV parts and manifests. Default: a private folder in the user's cache."""
    statement_timeout: Annotated[float, Field(ge=0)] = 3600
    """Seconds that one statement may take on either server; 0 is no limit."""
    lock_timeout: Annotated[float, Field(ge=0)] = 30
    """Seconds to wait for a lock on a table on either server; 0 is no limit."""
    connect_timeout: Annotated[int, Field(ge=1)] = 10
    """Seconds to wait for a connection."""
    max_snapshot_age: Annotated[float, Field(ge=1)] = 4 * 3600
    """Seconds that one extract may hold its snapshot, which holds back vacuum at the source."""

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.min_workers > self.max_workers:
            raise ValueError(f"min_workers {self.min_workers} is above max_workers {self.max_workers}")
        return self


class ReplicationConfig(_Strict):
    """Everything that one deployment replicates."""

    source: SecretStr | None = None
    """libpq URL or keyword string of the source database; XMIN_SOURCE_URL goes before it."""
    target: SecretStr | None = None
    """libpq URL or keyword string of the target database; XMIN_TARGET_URL goes before it."""
    settings: Settings = Settings()
    defaults: TableDefaults = TableDefaults()
    tables: tuple[TableConfig, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _apply_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("tables"), (list, tuple)):
            return data
        defaults = data.get("defaults") or {}
        if not isinstance(defaults, dict):
            return data
        tables = []
        for table in data["tables"]:
            if isinstance(table, str):
                table = {"source": table}
            tables.append({**defaults, **table} if isinstance(table, dict) else table)
        return {**data, "tables": tables}

    @model_validator(mode="after")
    def _targets_differ(self) -> ReplicationConfig:
        targets: dict[QualifiedName, str] = {}
        for table in self.tables:
            if table.target_name in targets:
                raise ValueError(
                    f"{targets[table.target_name]} and {table.label} have the same target, {table.target_name}; "
                    "give one of them another: target: schema.table"
                )
            targets[table.target_name] = table.label
        return self

    def source_url(self) -> str:
        """The source's connection string, from the environment or this configuration."""
        return _url("XMIN_SOURCE_URL", self.source, "source")

    def target_url(self) -> str:
        """The target's connection string, from the environment or this configuration."""
        return _url("XMIN_TARGET_URL", self.target, "target")

    def select(self, names: list[str] | tuple[str, ...]) -> tuple[TableConfig, ...]:
        """The tables of these names (with or without the schema ``public``), or all where none is named.

        Raises:
            ConfigError: a name is not configured; the message names the nearest one that is.
        """
        if not names:
            return self.tables
        by_label = {table.label: table for table in self.tables}
        by_label |= {table.source_name.name: table for table in self.tables if table.source_name.schema == "public"}
        chosen = []
        for name in names:
            table = by_label.get(name) or by_label.get(str(QualifiedName.parse(name)))
            if table is None:
                raise ConfigError(f"Table {name} is not configured.{nearest(name, by_label)}")
            chosen.append(table)
        return tuple(dict.fromkeys(chosen))


def _url(variable: str, configured: SecretStr | None, side: str) -> str:
    value = os.environ.get(variable) or (configured.get_secret_value() if configured else "")
    if not value.strip():
        raise ConfigError(
            f"No {side} database is configured. Set {variable} to a libpq URL such as "
            f"postgresql://user@host:5432/dbname, or {side}: in the configuration file."
        )
    return value


def nearest(name: str, known: Any) -> str:
    """`` Did you mean X?`` for the known name that is closest, or nothing."""
    close = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""


def config_path(path: str | os.PathLike[str] | None = None) -> Path:
    """The configuration file: the one given, else ``XMIN_CONFIG``, else the default of this project."""
    return Path(path or os.environ.get("XMIN_CONFIG") or DEFAULT_CONFIG)


def load_config(path: str | os.PathLike[str] | None = None) -> ReplicationConfig:
    """Read a configuration file: a component file (``type:`` and ``attributes:``) or the attributes alone.

    Raises:
        ConfigError: the file is missing, is not YAML, or says something unknown or impossible.
    """
    file = config_path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"There is no configuration file {file}. Name one with --config or XMIN_CONFIG; the least that works is:"
            "\ntables: [{source: public.orders}]"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error}.") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        at = f" at line {where.line + 1}, column {where.column + 1}" if where else ""
        raise ConfigError(f"{file} is not YAML{at}: {getattr(error, 'problem', None) or error}.") from None
    if isinstance(data, dict) and "attributes" in data:
        unknown = set(data) - {"type", "attributes", "requirements", "template_vars_module", "post_processing"}
        if unknown:
            raise ConfigError(f"{file}: {sorted(unknown)[0]!r} is not a key of a component file.")
        data = data["attributes"]
    return parse_config(data, str(file))


def parse_config(data: object, origin: str = "the configuration") -> ReplicationConfig:
    """Validate configuration data; ``{{ env.NAME }}`` in a string is replaced by that variable.

    Raises:
        ConfigError: a key is unknown (the nearest known one is named) or a value is not allowed.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{origin} holds no settings. The least that works is:\ntables: [{{source: public.orders}}]")
    try:
        return ReplicationConfig.model_validate(_expand(data, origin))
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {line}" for line in _explain(error))) from None


def _expand(value: Any, origin: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, origin) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, origin) for item in value]
    if isinstance(value, str):

        def variable(match: re.Match[str]) -> str:
            try:
                return os.environ[match.group(1)]
            except KeyError:
                raise ConfigError(f"{origin} uses the variable {match.group(1)}, which is not set.") from None

        return _ENV.sub(variable, value)
    return value


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            parent, name = problem["loc"][:-1], str(problem["loc"][-1])
            lines.append(f"unknown key {place!r}.{nearest(name, _known_keys(parent))}")
        elif problem["type"] == "missing":
            lines.append(f"{place!r} is missing.")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{place + ': ' if place else ''}{message.rstrip('.')}.")
    return list(dict.fromkeys(lines))[:2]


def _known_keys(parent: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {"tables": TableConfig, "defaults": TableDefaults, "settings": Settings}
    return list(models.get(str(parent[0]) if parent else "", ReplicationConfig).model_fields)
