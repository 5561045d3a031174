"""What a configuration's definitions are called: legal in Dagster, unique, and the same tomorrow.

Dagster allows letters, digits and underscores, and names an asset's op by joining its key with ``__``.
A name of PostgreSQL that cannot be part of that as it is gets a readable form and a digest of the exact name. What a
table's assets are called depends on its own names alone: a table that is added changes no other one's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from dagster import AssetKey

from xmin_assets.config import ReplicationConfig, TableConfig

StationName = Literal["source_snapshot", "csv_extract", "staged_table", "merged_target"]
STATIONS: tuple[StationName, ...] = get_args(StationName)

# No `__` inside and no `_` at the end: else ("a", "_b") and ("a_", "b") would name the same op.
_LEGAL_SCHEMA = re.compile(r"(?!.*__)[A-Za-z0-9_]*[A-Za-z0-9]")

# A table that is called like another one's station would have its key.
_LEGAL_TABLE = re.compile(rf"(?!.*_(?:{'|'.join(STATIONS[:-1])})$)[A-Za-z0-9_]+")


@dataclass(frozen=True)
class DefinitionNames:
    """What else than assets is called, so that any number of configurations can lie side by side.

    Each name begins with the configuration's own, if it has one.
    """

    name: str | None

    @property
    def settings(self) -> str:
        """The key of the resource with the settings."""
        return self._own("replication_settings")

    @property
    def manifests(self) -> str:
        """The key of the IO manager."""
        return self._own("xmin_manifests")

    @property
    def sync_all_tables(self) -> str:
        """The job that syncs every table."""
        return self._own("sync_all_tables")

    @property
    def verify_all_tables(self) -> str:
        """The job that compares every table."""
        return self._own("verify_all_tables")

    @property
    def clean_up(self) -> str:
        """The job that removes leftovers."""
        return self._own("clean_up")

    @property
    def remove_leftovers(self) -> str:
        """The op of that job."""
        return self._own("remove_leftovers")

    @property
    def source_change_sensor(self) -> str:
        """The sensor that looks for changes at the source."""
        return self._own("source_change_sensor")

    @property
    def automation_sensor(self) -> str:
        """The sensor that evaluates automation conditions."""
        return self._own("automation_sensor")

    @property
    def source(self) -> str:
        """What the keys of the source's tables begin with."""
        return self.name or "source"

    def _own(self, name: str) -> str:
        return f"{self.name}_{name}" if self.name else name


def names_of(config: ReplicationConfig) -> DefinitionNames:
    """Return what a configuration's definitions are called."""
    return DefinitionNames(config.name)


def component_name(folders: Sequence[str], place: int | str | None = None) -> str:
    """Return what a component is called that lies in these folders, such as ``europe__sales``.

    Args:
        folders: from the project's folder of definitions on.
        place: the component's in a file with several: a number from 0 on, of which the first is not said, or a name.
    """
    name = "__".join(legal_schema(folder) for folder in folders)
    # The keys of resources are identifiers of Python.
    name = f"_{name}" if name[0].isdigit() else name
    if isinstance(place, int):
        return f"{name}_{place + 1}" if place else name
    return f"{name}__{legal_schema(place)}" if place else name


def legal_schema(name: str) -> str:
    """Return a schema's name as it may stand in an asset key; different names give different results."""
    return name if _LEGAL_SCHEMA.fullmatch(name) else _digested(name)


def legal_table(name: str) -> str:
    """Return a table's name as it may stand at the end of an asset key; different names give different results."""
    return name if _LEGAL_TABLE.fullmatch(name) else _digested(name)


def group_name(table: TableConfig) -> str:
    """Return the group of a table's assets, such as ``public__orders``."""
    return "__".join(_target_path(table))


def asset_key(table: TableConfig, station: StationName) -> AssetKey:
    """Return the key of one of a table's four assets.

    The merged target is called like the table that it is, ``public/orders``, as other integrations call it; the others
    ``public/orders_source_snapshot`` and so on.
    """
    return station_key(AssetKey(_target_path(table)), station)


def station_key(merged_target: AssetKey, station: StationName) -> AssetKey:
    """Return the key of a table's asset, by that of its merged target."""
    *prefix, name = merged_target.path
    return merged_target if station == "merged_target" else AssetKey([*prefix, f"{name}_{station}"])


def source_key(table: TableConfig, names: DefinitionNames) -> AssetKey:
    """Return the key of the source's table, such as ``source/public/orders``."""
    source = table.source_name
    return AssetKey([names.source, legal_schema(source.schema), legal_table(source.name)])


def _target_path(table: TableConfig) -> tuple[str, str]:
    target = table.target_name
    return legal_schema(target.schema), legal_table(target.name)


def _digested(name: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{readable}_{digest}" if readable else f"x_{digest}"
