"""Assets of other names and looks: what a translator says holds for the assets, their links and their checks."""

from __future__ import annotations

import pytest
from dagster import AssetKey, AssetSelection, AssetSpec, AutomationCondition, materialize

from xmin_assets import DagsterXminTranslator, XminTranslatorProps, build_xmin_assets, build_xmin_checks
from xmin_assets.config import parse_config
from xmin_assets.errors import ConfigError
from xmin_assets.orchestration.definitions_builder import build_definitions, build_resources
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment


class Ours(DagsterXminTranslator):
    def get_asset_spec(self, props: XminTranslatorProps) -> AssetSpec:
        spec = (
            super()
            .get_asset_spec(props)
            .replace_attributes(
                key=AssetKey(["warehouse", props.table.source_name.name, props.station]),
                group_name="warehouse",
                owners=["team:data"],
                tags={"tier": "gold"},
                kinds={"postgresql"},
                automation_condition=AutomationCondition.eager(),
            )
        )
        return spec.merge_attributes(metadata={"contact": "data@example.org"})


class AllTheSame(DagsterXminTranslator):
    def get_asset_spec(self, props: XminTranslatorProps) -> AssetSpec:
        return props.default_spec.replace_attributes(key=["one"])


@pytest.mark.parametrize("steps", ["stages", "table"])
def test_what_the_translator_says_holds_for_the_assets_and_their_links(deployment: Deployment, steps: str) -> None:
    deployment.options = {"steps": steps}

    graph = build_definitions(deployment.config, translator=Ours()).resolve_asset_graph()

    node = graph.get(AssetKey(["warehouse", "orders", "merged_target"]))
    assert (node.group_name, list(node.owners), node.tags["tier"]) == ("warehouse", ["team:data"], "gold")
    assert node.metadata["contact"] == "data@example.org"
    assert node.metadata["xmin_assets/source_table"] == "public.orders"
    assert node.automation_condition == AutomationCondition.eager()
    assert node.kinds == {"postgresql"}
    assert node.parent_keys == {AssetKey(["warehouse", "orders", "staged_table"])}


@pytest.mark.parametrize("steps", ["stages", "table"])
def test_assets_of_other_keys_sync_and_verify(
    deployment: Deployment, source_db: Database, target_db: Database, steps: str
) -> None:
    deployment.options = {"steps": steps}
    config = deployment.config
    assets = build_xmin_assets(config, translator=Ours())
    checks = build_xmin_checks(config, translator=Ours())

    result = materialize(
        [*assets, *checks],
        selection=AssetSelection.assets(*assets),
        instance=deployment.instance,
        resources=build_resources(config.settings),
    )

    assert target_db.fetch("SELECT count(*) FROM orders") == source_db.fetch("SELECT count(*) FROM orders")
    (verified,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "target_equals_source"]
    assert verified.passed
    assert verified.asset_key == AssetKey(["warehouse", "orders", "merged_target"])


def test_two_assets_of_one_key_are_refused(deployment: Deployment) -> None:
    with pytest.raises(ConfigError, match="the same key, one"):
        build_xmin_assets(deployment.config, translator=AllTheSame())


def test_a_deployment_takes_a_translator_too(deployment: Deployment) -> None:
    definitions = build_definitions(deployment.config, translator=Ours())

    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    assert {key.path[0] for key in keys} == {"source", "warehouse"}


SAID = {
    "translation": {"key_prefix": "warehouse", "owners": ["team:data"], "tags": {"tier": "gold", "n": 1}},
    "tables": [
        "public.plain",
        {
            "source": "public.orders",
            "target": "raw.orders",
            "translation": {
                "key": "sales/{{ table.name }}",
                "group_name": "sales",
                "description": "What was ordered.",
                "deps": ["shop/migrated"],
                "automation_condition": "{{ dg.AutomationCondition.eager() }}",
                "metadata": {"contact": "data@example.org"},
            },
        },
    ],
}


def test_the_configuration_translates_for_all_tables_and_for_one() -> None:
    graph = build_definitions(parse_config(SAID)).resolve_asset_graph()

    plain = graph.get(AssetKey(["warehouse", "public", "plain"]))
    assert (plain.group_name, list(plain.owners), plain.tags["tier"], plain.tags["n"]) == (
        "public__plain",
        ["team:data"],
        "gold",
        "1",
    )
    merged = graph.get(AssetKey(["sales", "orders"]))
    assert (merged.group_name, merged.description, merged.tags["tier"]) == ("sales", "What was ordered.", "gold")
    assert merged.metadata["contact"] == "data@example.org"
    assert merged.automation_condition == AutomationCondition.eager()
    assert merged.parent_keys == {AssetKey(["sales", "orders_staged_table"])}
    first = graph.get(AssetKey(["sales", "orders_source_snapshot"]))
    assert first.parent_keys == {AssetKey(["shop", "migrated"]), AssetKey(["source", "public", "orders"])}
    assert first.description != "What was ordered."
    assert first.tags["xmin_assets/station"] == "source_snapshot"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"grup_name": "a"}, "Did you mean group_name"),
        ({"group_name": "{{ tabel.name }}"}, "tabel"),
        ({"owners": ["nobody"]}, "nobody"),
    ],
)
def test_a_translation_that_dagster_does_not_take_is_an_error(said: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build_definitions(parse_config({"tables": ["public.a"], "translation": said}))


def test_a_translated_table_is_synced(deployment: Deployment, source_db: Database, target_db: Database) -> None:
    deployment.options = {"translation": {"key": "one/{{ table.name }}", "key_prefix": ["a", "b"]}}
    assert deployment.run().success
    assert target_db.fetch("SELECT count(*) FROM orders") == source_db.fetch("SELECT count(*) FROM orders")
