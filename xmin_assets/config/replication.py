"""The whole configuration of one deployment, and the rules between its parts."""

# Descriptions are arguments and not docstrings below the fields: pydantic would read its own source for those at
# every start, which costs more than the rest of this module.
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, StringConstraints, ValidationError, model_validator

from xmin_assets.config.base import Strict
from xmin_assets.config.checks import Checks
from xmin_assets.config.connections import connection_url
from xmin_assets.config.dagster import Cron, Freshness, Sensor, Steps, Translation
from xmin_assets.config.pattern import UNRESOLVED, is_pattern
from xmin_assets.config.settings import Settings
from xmin_assets.config.tables import TableConfig, TableDefaults
from xmin_assets.config.validation_messages import explain, nearest
from xmin_assets.errors import ConfigError
from xmin_assets.postgres.identifiers import QualifiedName


class ReplicationConfig(Strict):
    """Everything that one deployment replicates."""

    source: SecretStr | None = Field(
        default=None,
        description="libpq URL or keyword string of the source database. XMIN_SOURCE_URL goes before it, "
        "except in a component.",
    )
    target: SecretStr | None = Field(
        default=None,
        description="libpq URL or keyword string of the target database. XMIN_TARGET_URL goes before it, "
        "except in a component.",
    )
    name: Annotated[str, StringConstraints(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        default=None,
        description="What the names of jobs, sensors, schedules and resources begin with, so that several "
        "configurations can lie side by side in one project. Default for a component: the folders to it.",
    )
    translation: Translation | None = Field(
        default=None, description="What the assets of all tables are called and look like in Dagster."
    )
    settings: Settings = Field(default=Settings(), description="How the work is done; the same for all tables.")
    defaults: TableDefaults = Field(
        default=TableDefaults(), description="What holds for every table that says nothing else."
    )
    steps: Steps = Field(
        default="stages",
        description="`stages`: one step of a Dagster run for each station; `table`: one for all four of a table.",
    )
    schedule: Cron | None = Field(default=None, description="When Dagster syncs all tables, in cron's form.")
    sensor: Sensor | None = Field(default=None, description="Lets Dagster sync the tables that changed.")
    automation: Literal["eager"] | Cron | None = Field(
        default=None,
        description="Automation conditions: `eager` has a table's assets follow its source_snapshot; a schedule in "
        "cron's form materializes that one, too.",
    )
    freshness: Freshness | None = Field(default=None, description="How old a target may become.")
    cleanup: Cron | None = Field(
        default=None, description="When Dagster removes what crashed syncs have left behind, in cron's form."
    )
    checks: Checks = Field(default=Checks(), description="Dagster's asset checks: what they look at, and how often.")
    tables: tuple[TableConfig, ...] = Field(min_length=1, description="The tables to keep copies of.")

    _own_databases: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _apply_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        # A section whose every line is commented out reads as null.
        data = {key: value for key, value in data.items() if value is not None}
        defaults, tables = data.get("defaults", {}), data.get("tables")
        if is_pattern(tables):
            raise ValueError(f"tables: {UNRESOLVED}")
        if not isinstance(defaults, dict) or not isinstance(tables, (list, tuple)):
            return data
        tables = [{"source": table} if isinstance(table, str) else table for table in tables]
        tables = [{**defaults, **table} if isinstance(table, dict) else table for table in tables]
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

    def with_own_databases(self) -> ReplicationConfig:
        """Return the same configuration, whose own `source` and `target` go before the environment's.

        One of several in a process means its own databases, and the variables are the same for all.
        """
        changed = self.model_copy()
        changed._own_databases = True
        return changed

    def source_url(self) -> str:
        """Return the source's connection string, from the environment or this configuration."""
        return connection_url("source", self.source, configured_first=self._own_databases)

    def target_url(self) -> str:
        """Return the target's connection string, from the environment or this configuration."""
        return connection_url("target", self.target, configured_first=self._own_databases)

    def select(self, names: Sequence[str]) -> tuple[TableConfig, ...]:
        """Return the tables of these names (with or without the schema ``public``), or all where none is named.

        Raises:
            ConfigError: a name is not configured; the message names the nearest one that is.
        """
        if not names:
            return self.tables
        chosen: list[TableConfig] = []
        for name in names:
            found = [table for table in self.tables if name in _names(table) or _parsed(name) in _names(table)]
            if not found:
                known = [known for table in self.tables for known in _names(table)]
                raise ConfigError(f"Table {name} is not configured.{nearest(name, known)}")
            chosen += found
        return tuple(dict.fromkeys(chosen))

    def refilling(self, columns: Sequence[str], names: Sequence[str]) -> ReplicationConfig:
        """Return the same configuration with `convert: refill` for these columns of the one table of these names.

        Raises:
            ConfigError: the names mean no table, or several.
        """
        chosen = self.select(names)
        if len(chosen) != 1:
            raise ConfigError(
                f"Columns to refill are those of one table, and these are {len(chosen)}. Name the table, as in "
                f"xmin-assets sync {chosen[0].label} --refill {columns[0]}."
            )
        (table,) = chosen
        convert = table.convert if table.convert == "refill" else tuple(columns)
        changed = table.model_copy(update={"convert": convert})
        return self.model_copy(update={"tables": tuple(changed if known is table else known for known in self.tables)})

    def with_settings(self, **settings: object) -> ReplicationConfig:
        """Return the same configuration with these settings instead of its own.

        Raises:
            ConfigError: a setting is unknown or a value is not allowed.
        """
        try:
            changed = Settings.model_validate({**self.settings.model_dump(), **settings})
        except ValidationError as error:
            # The cause quotes values, and a spool's URL may have a password.
            raise ConfigError("\n".join(f"settings: {line}" for line in explain(error, settings, Settings))) from None
        return self.model_copy(update={"settings": changed})


def _names(table: TableConfig) -> Iterator[str]:
    yield table.label
    if table.source_name.schema == "public":
        yield table.source_name.name


def _parsed(name: str) -> str:
    return str(QualifiedName.parse(name))
