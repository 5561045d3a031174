"""How a table's four assets look in the catalog: description, group, kinds, and metadata known beforehand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dagster import AssetSpec

from xmin_assets.config import Mode, ReplicationConfig, TableConfig
from xmin_assets.errors import ConfigError
from xmin_assets.orchestration.automation import automation_of, automation_tags
from xmin_assets.orchestration.metadata import column_schema, key_text
from xmin_assets.orchestration.names import (
    STATIONS,
    DefinitionNames,
    StationName,
    asset_key,
    group_name,
    names_of,
    source_key,
)
from xmin_assets.orchestration.translation import translated
from xmin_assets.orchestration.translator import DagsterXminTranslator, XminTranslatorProps
from xmin_assets.replication.spool.last_sync import LastSync, recall

STATION_TAG = "xmin_assets/station"
"""The tag by which stations are selected: `tag:"xmin_assets/station"=merged_target`."""

_KINDS: dict[StationName, set[str]] = {
    "source_snapshot": {"postgresql", "source"},
    "csv_extract": {"csv"},
    "staged_table": {"postgresql", "table"},
    "merged_target": {"postgresql", "table"},
}
_STORAGE: dict[StationName, str] = {
    "csv_extract": "csv",
    "staged_table": "postgresql",
    "merged_target": "postgresql",
}
_WHAT: dict[StationName, str] = {
    "source_snapshot": "{source}: what the next sync reads, and why. Nothing is copied yet.",
    "csv_extract": "{source}: the changed rows, and the keys of all where needed to find deletes, read under one "
    "snapshot by several workers into CSV files in the spool.",
    "staged_table": "{source}: the extract, loaded and checked in the schema `xmin_assets` of the target.",
    "merged_target": "{target}: the copy, equal to the source's {source} as of the extract's snapshot. Deletes, "
    "inserts, updates and the watermark are one transaction.",
}
_MODES: dict[Mode, str] = {
    Mode.XMIN_INCREMENTAL: "rows changed since the last sync, by `xmin`",
    Mode.INCREMENTAL_SYNC: "rows changed since the last sync, by `{cursor}`",
    Mode.FULL_SYNC: "all rows, every time",
}
_DELETES = {
    "hard": "deleted in the target too",
    "soft": "marked in `{column}`",
    "ignore": "left alone in the target",
}

TableSpecs = Mapping[TableConfig, Mapping[StationName, AssetSpec]]
"""The spec of each table's assets."""


def table_specs(
    config: ReplicationConfig,
    translator: DagsterXminTranslator | None,
    scope: Mapping[str, Any] | None = None,
    known: Mapping[TableConfig, LastSync] | None = None,
) -> TableSpecs:
    """Return the specs of all assets, as the translator wants them, or the default one.

    Args:
        config: what is replicated.
        translator: what the assets are called and look like.
        scope: what templates under `translation:` may name beside Dagster's own.
        known: what `recall` gives, if it was read before.

    Raises:
        ConfigError: two assets have the same key.
    """
    specs: dict[TableConfig, dict[StationName, AssetSpec]] = {}
    translator = translator or DagsterXminTranslator()
    known, names = recall(config) if known is None else known, names_of(config)
    taken = {source_key(table, names): f"the source's {table.label}" for table in config.tables}
    for table in config.tables:
        specs[table] = {}
        for station in STATIONS:
            default = asset_spec(table, station, names, known.get(table))
            default = default.replace_attributes(**automation_of(config, station, source_key(table, names)))
            default = default.merge_attributes(tags=automation_tags(config))
            default = translated(default, config, table, station, scope or {})
            spec = translator.get_asset_spec(XminTranslatorProps(config, table, station, default))
            what = f"{station} of {table.label}"
            if spec.key in taken:
                raise ConfigError(
                    f"The translator gives {taken[spec.key]} and {what} the same key, {spec.key.to_user_string()}. "
                    "Make keys of the table's and the station's names."
                )
            taken[spec.key] = what
            specs[table][station] = spec
    return specs


def source_specs(config: ReplicationConfig, known: Mapping[TableConfig, LastSync] | None = None) -> list[AssetSpec]:
    """Return the source's tables, which are there without Dagster; a table may be copied more than once.

    Args:
        config: what is replicated.
        known: what `recall` gives, if it was read before.
    """
    known, names = recall(config) if known is None else known, names_of(config)
    specs = {
        key: AssetSpec(
            key,
            description=_below_comment(
                known.get(table), f"{_plain(table.label)}, as it is at the source. It is read and never written."
            ),
            group_name=group_name(table),
            kinds={"postgresql", "source"},
            metadata={"dagster/storage_kind": "postgresql"},
        )
        for table in config.tables
        if (key := source_key(table, names))
    }
    return [*specs.values()]


def asset_spec(
    table: TableConfig, station: StationName, names: DefinitionNames, last: LastSync | None = None
) -> AssetSpec:
    """Return one of a table's assets, as far as the configuration and the last sync tell."""
    storage = {"dagster/storage_kind": _STORAGE[station]} if station in _STORAGE else {}
    # Dagster takes assets of one table name for the same table, and the source's and the target's are often alike.
    target = {"dagster/table_name": str(table.target_name)} if station == "merged_target" else {}
    if target and last:
        # Those of the other three would quadruple what the webserver loads, and say the same.
        target |= column_schema(last.selection, last.comments, own=True)
    return AssetSpec(
        asset_key(table, station),
        deps=[source_key(table, names)] if station == "source_snapshot" else [],
        description=description(table, station, last),
        group_name=group_name(table),
        kinds=_KINDS[station],
        tags={STATION_TAG: station},
        metadata={
            **target,
            **storage,
            "xmin_assets/source_table": table.label,
            "xmin_assets/target_table": str(table.target_name),
        },
    )


def description(table: TableConfig, station: StationName, last: LastSync | None = None) -> str:
    """Return what the asset is and how the table is replicated, in Markdown."""
    facts = {
        "Source": f"`{table.label}`",
        "Target": f"`{table.target_name}`",
        "Mode": f"`{table.mode.value}`: {_MODES[table.mode].format(cursor=table.cursor)}",
        "Key": _key(table, last),
        "Rows deleted at the source": _DELETES[table.deletes].format(column=table.deleted_at_column),
    }
    if table.where:
        facts["Only rows where"] = f"`{' '.join(table.where.split())}`"
    if table.columns:
        facts["Only the columns"] = _names(table.columns)
    if table.exclude_columns:
        facts["Without the columns"] = _names(table.exclude_columns)
    if last:
        facts["Last sync before this code was loaded"] = (
            f"{last.rows:,} rows, watermark {last.watermark}, {last.at:%Y-%m-%d %H:%M} UTC"
        )
    what = _WHAT[station].format(source=_plain(table.label), target=_plain(str(table.target_name)))
    # A list and no table: `dg list defs` and the catalog show the beginning as it is written.
    text = "\n".join([what, "", *(f"- {name}: {fact}" for name, fact in facts.items())])
    return _below_comment(last, text) if station == "merged_target" else text


def _below_comment(last: LastSync | None, text: str) -> str:
    """Return a description that begins with what the source's own people say of the table."""
    return f"{last.comments.table}\n\n{text}" if last and last.comments.table else text


def _key(table: TableConfig, last: LastSync | None) -> str:
    if table.key:
        return _names(table.key)
    if last is None:
        # Of what a run finds, Dagster shows the metadata at once, and a description when it loads the code again.
        return "the primary key, or a unique one without NULLs; each run shows which, as `xmin_assets/key`"
    return _names(last.selection.key) or key_text(last.selection)


def _plain(name: str) -> str:
    """Return a table's name where Markdown and the catalog's list, which shows its source, both show it as it is."""
    return name if re.fullmatch(r"[A-Za-z0-9]+([._][A-Za-z0-9]+)*", name) else f"`{name}`"


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f"`{column}`" for column in columns)
