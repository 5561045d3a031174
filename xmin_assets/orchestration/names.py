"""Which asset keys and groups a table gets: legal in Dagster, one per table, the same tomorrow.

Dagster allows letters, digits and underscores, and names an asset's op by joining its key with ``__``.
A name of PostgreSQL that cannot be part of that as it is gets a readable form and a digest of the exact name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Literal, get_args

from dagster import AssetKey

from xmin_assets.config import TableConfig

StationName = Literal["source_snapshot", "csv_extract", "staged_table", "merged_target"]
STATIONS: tuple[StationName, ...] = get_args(StationName)

# No `__` inside and no `_` at the end: else ("a", "_b") and ("a_", "b") would name the same op.
_LEGAL = re.compile(r"(?!.*__)[A-Za-z0-9_]*[A-Za-z0-9]")


def legal(name: str) -> str:
    """Return the name as it may stand in an asset key; different names give different results."""
    if _LEGAL.fullmatch(name):
        return name
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{readable}_{digest}" if readable else f"x_{digest}"


def group_name(table: TableConfig) -> str:
    """Return the group of a table's assets: the schema it has at the source."""
    return legal(table.source_name.schema)


def key_prefixes(tables: Iterable[TableConfig]) -> dict[TableConfig, tuple[str, str]]:
    """Return what the asset keys of each table begin with: the schema and name it has at the source.

    A source table that is copied a second time, to another target, is known by that target.
    """
    prefixes: dict[TableConfig, tuple[str, str]] = {}
    taken: set[tuple[str, str]] = set()
    for table in tables:
        schema, name = table.source_name.schema, table.source_name.name
        prefix = legal(schema), legal(name)
        if prefix in taken:
            prefix = legal(schema), legal(f"{name} to {table.target_name}")
        taken.add(prefix)
        prefixes[table] = prefix
    return prefixes


def asset_key(prefix: tuple[str, str], station: StationName) -> AssetKey:
    """Return the key of one of a table's four assets, such as ``public/orders/merged_target``."""
    return AssetKey([*prefix, station])
