"""What ``translation:`` in the configuration says of a table's assets, by Dagster's own model of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import AssetKey, AssetSpec, DagsterInvalidDefinitionError
from dagster.components.resolved.context import ResolutionContext
from dagster.components.resolved.core_models import AssetAttributesModel
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.translation import TranslatorResolvingInfo
from pydantic import ValidationError

from xmin_assets.config import ReplicationConfig, TableConfig
from xmin_assets.config.dagster import Translation
from xmin_assets.errors import ConfigError
from xmin_assets.orchestration.names import StationName, station_key


def translated(
    spec: AssetSpec, config: ReplicationConfig, table: TableConfig, station: StationName, scope: Mapping[str, Any]
) -> AssetSpec:
    """Return the spec of a table's asset as the configuration wants it: what the table says goes before the rest.

    A key is that of the merged target, from which those of the other three are made; a description is of the merged
    target alone. Dependencies are added to the source_snapshot, with which a sync begins.

    Raises:
        ConfigError: Dagster does not take what it says.
    """
    for where, said in (("translation", config.translation), (f"{table.label}: translation", table.translation)):
        if said is not None:
            spec = _apply(spec, said, table, station, where, scope)
    return spec


def _apply(
    spec: AssetSpec, said: Translation, table: TableConfig, station: StationName, where: str, known: Mapping[str, Any]
) -> AssetSpec:
    attributes = said.model_dump(exclude_none=True)
    if station != "merged_target":
        attributes.pop("description", None)
    upstream = attributes.pop("deps", ())
    has_key = "key" in attributes
    target = table.target_name
    of_table = {"schema": target.schema, "name": target.name, "source": table.label}
    scope = {**known, "table": of_table, "station": station}
    try:
        info = TranslatorResolvingInfo(AssetAttributesModel(**attributes), ResolutionContext.default(), "translation")
        changed = info.get_asset_spec(spec, {**scope, "spec": spec})
        deps = [_key(name, scope) for name in upstream] if station == "source_snapshot" else []
    except (ResolutionException, ValidationError, DagsterInvalidDefinitionError, ValueError) as error:
        problems = (
            [problem["msg"] for problem in error.errors()]
            if isinstance(error, ValidationError)
            # Dagster puts a traceback before what is wrong.
            else str(error).strip().splitlines()[-1:]
        )
        raise ConfigError(f"{where}: {'; '.join(problems)}") from None
    if has_key:
        changed = changed.replace_attributes(key=station_key(changed.key, station))
    return changed.replace_attributes(deps=[*changed.deps, *deps]) if deps else changed


def _key(name: str, scope: dict[str, Any]) -> AssetKey:
    return AssetKey.from_user_string(ResolutionContext.default().with_scope(**scope).resolve_value(name, as_type=str))
