"""How a table's four assets look in the catalog: description, group, kinds, and metadata known beforehand."""

from __future__ import annotations

from collections.abc import Mapping

from dagster import AssetKey, AssetSpec

from xmin_assets.config import Mode, ReplicationConfig, TableConfig
from xmin_assets.errors import ConfigError
from xmin_assets.orchestration.automation import automation_of
from xmin_assets.orchestration.names import STATIONS, StationName, asset_key, group_name, key_prefixes
from xmin_assets.orchestration.translator import DagsterXminTranslator, XminTranslatorProps

_KINDS: dict[StationName, set[str]] = {
    "source_snapshot": {"postgresql", "snapshot"},
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
    "source_snapshot": "What to read from `{source}`, and why: the plan of one sync. Nothing is copied yet.",
    "csv_extract": "The changed rows of `{source}`, and the keys of all where needed to find deletes: read under "
    "one snapshot by several workers into CSV files in the spool.",
    "staged_table": "The extract of `{source}`, loaded and checked in the schema `xmin_assets` of the target.",
    "merged_target": "`{target}` in the target, equal to the source's `{source}` as of the extract's snapshot: "
    "deletes, inserts, updates and the watermark in one transaction.",
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


def table_specs(config: ReplicationConfig, translator: DagsterXminTranslator | None) -> TableSpecs:
    """The specs of all assets, as the translator wants them, or the default one.

    Raises:
        ConfigError: two assets have the same key.
    """
    specs: dict[TableConfig, dict[StationName, AssetSpec]] = {}
    translator = translator or DagsterXminTranslator()
    taken: dict[AssetKey, str] = {}
    for table, prefix in key_prefixes(config.tables).items():
        specs[table] = {}
        for station in STATIONS:
            default = asset_spec(table, station, asset_key(prefix, station))
            default = default.replace_attributes(**automation_of(config, station))
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


def asset_spec(table: TableConfig, station: StationName, key: AssetKey) -> AssetSpec:
    """One of a table's assets, as far as the configuration tells."""
    storage = {"dagster/storage_kind": _STORAGE[station]} if station in _STORAGE else {}
    # Dagster takes assets of one table name for the same table, and the source's and the target's are often alike.
    name = {"dagster/table_name": str(table.target_name)} if station == "merged_target" else {}
    return AssetSpec(
        key,
        description=description(table, station),
        group_name=group_name(table),
        kinds=_KINDS[station],
        metadata={
            **name,
            **storage,
            "xmin_assets/source_table": table.label,
            "xmin_assets/target_table": str(table.target_name),
        },
    )


def description(table: TableConfig, station: StationName) -> str:
    """What the asset is and how the table is replicated, in Markdown."""
    facts = {
        "Source": f"`{table.label}`",
        "Target": f"`{table.target_name}`",
        "Reads": _MODES[table.mode].format(cursor=table.cursor),
        "Key": _names(table.key) if table.key else "the primary key, or a unique one without NULLs",
        "Rows deleted at the source": _DELETES[table.deletes].format(column=table.deleted_at_column),
    }
    if table.where:
        facts["Only rows where"] = f"`{' '.join(table.where.split())}`"
    if table.columns:
        facts["Only the columns"] = _names(table.columns)
    if table.exclude_columns:
        facts["Without the columns"] = _names(table.exclude_columns)
    what = _WHAT[station].format(source=table.label, target=table.target_name)
    rows = [f"| {name} | {_cell(fact)} |" for name, fact in facts.items()]
    return "\n".join([what, "", "| | |", "| --- | --- |", *rows])


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f"`{column}`" for column in columns)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
