"""The assets and asset checks of all configured tables."""

from __future__ import annotations

from dagster import AssetChecksDefinition, AssetsDefinition, RetryPolicy

from xmin_assets.config import ReplicationConfig
from xmin_assets.orchestration import checks
from xmin_assets.orchestration.failures import DEFAULT_RETRY_POLICY
from xmin_assets.orchestration.specs import TableSpecs, table_specs
from xmin_assets.orchestration.table_assets import TableAssets
from xmin_assets.orchestration.translator import DagsterXminTranslator


def build_xmin_assets(
    config: ReplicationConfig,
    *,
    translator: DagsterXminTranslator | None = None,
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
) -> list[AssetsDefinition]:
    """Build four assets for each configured table, in the order of the configuration.

    They need the resources that `build_resources` makes. Nothing connects before an asset is materialized;
    the databases' URLs are looked up then.

    Args:
        config: the tables and how to replicate them, and whether a run takes one step for each station of a table
            (``steps: stages``) or one for all four (``steps: table``).
        translator: what the assets are called and look like.
        retry_policy: what to do about errors that may pass, such as a lost connection.

    Raises:
        ConfigError: the translator gives two assets the same key.
    """
    return assets_of(config, table_specs(config, translator), retry_policy)


def assets_of(config: ReplicationConfig, specs: TableSpecs, retry_policy: RetryPolicy) -> list[AssetsDefinition]:
    """Do what `build_xmin_assets` does, from specs that are made already."""
    made: list[AssetsDefinition] = []
    for table, of_table in specs.items():
        assets = TableAssets(config, table, of_table, retry_policy)
        made += [assets.table_step()] if config.steps == "table" else assets.stages()
    return made


def build_xmin_checks(
    config: ReplicationConfig, *, translator: DagsterXminTranslator | None = None
) -> list[AssetChecksDefinition]:
    """Build the check of each configured table that its target equals its source; none if it is not enabled.

    The other checks are part of the assets.

    Args:
        config: the tables and the check's settings.
        translator: the one of the assets.
    """
    return checks_of(config, table_specs(config, translator))


def checks_of(config: ReplicationConfig, specs: TableSpecs) -> list[AssetChecksDefinition]:
    """Do what `build_xmin_checks` does, from specs that are made already."""
    if not config.checks.target_equals_source.enabled:
        return []
    return [checks.equality_check(config, table, of_table["merged_target"].key) for table, of_table in specs.items()]
