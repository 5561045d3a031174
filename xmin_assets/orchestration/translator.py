"""How tables become assets, for those who want keys, groups, owners or descriptions of their own."""

from __future__ import annotations

from dataclasses import dataclass

from dagster import AssetSpec

from xmin_assets.config import ReplicationConfig, TableConfig
from xmin_assets.orchestration.names import StationName


@dataclass(frozen=True)
class XminTranslatorProps:
    """What is known of an asset before it is made."""

    config: ReplicationConfig
    """The whole configuration."""
    table: TableConfig
    """The table that the asset is of."""
    station: StationName
    """source_snapshot, csv_extract, staged_table or merged_target."""
    default_spec: AssetSpec
    """What the asset is if nobody says otherwise."""


class DagsterXminTranslator:
    """Says what the asset of a table's station is called and looks like. Override `get_asset_spec` to change it."""

    def get_asset_spec(self, props: XminTranslatorProps) -> AssetSpec:
        """Return the spec of an asset: key, group, owners, tags, kinds, description, metadata, conditions, freshness.

        Dependencies may be added. Those between the four assets of a table are there whatever their keys are.

        Example:
            >>> class Ours(DagsterXminTranslator):
            ...     def get_asset_spec(self, props):
            ...         spec = super().get_asset_spec(props)
            ...         return spec.replace_attributes(group_name="replicas", owners=["team:data"])
        """
        return props.default_spec
