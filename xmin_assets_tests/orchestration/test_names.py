"""Asset keys: legal, unique, and the same whatever else is configured."""

from __future__ import annotations

import warnings

import pytest
from dagster import AssetKey, AssetSelection, Definitions
from hypothesis import given
from hypothesis import strategies as st

from xmin_assets.config import parse_config
from xmin_assets.orchestration.assets import build_xmin_assets
from xmin_assets.orchestration.definitions_builder import build_definitions
from xmin_assets.orchestration.names import legal_schema, legal_table


def keys(*tables: object) -> list[str]:
    assets = build_xmin_assets(parse_config({"tables": list(tables)}))
    return [key.to_user_string() for asset in assets for key in asset.keys]


def test_a_table_has_four_assets_keyed_by_schema_table_and_station() -> None:
    assert keys("sales.orders") == [
        "sales/orders_source_snapshot",
        "sales/orders_csv_extract",
        "sales/orders_staged_table",
        "sales/orders",
    ]


ODD_PAIRS = [
    ('public."two words"', "public.two_words"),
    ('public."a b"', 'public."a-b"'),
    ("public.größe", "public.grösse"),
    ("public.注文", "public.顧客"),
    ("a__b.c", "a.b__c"),
    ("a_.b", "a._b"),
    ("public.Orders", "public.orders"),
    ('public."a.b"', '"public.a".b'),
    ('public."x/y"', "public.x_y"),
    ("public.orders", "public.orders_csv_extract"),
    ("public.orders_staged_table", "public.orders_staged_table_source_snapshot"),
]


@pytest.mark.parametrize(("one", "other"), ODD_PAIRS)
def test_odd_names_load_side_by_side(one: str, other: str) -> None:
    definitions = build_definitions(parse_config({"tables": [one, other]}))
    graph = definitions.resolve_asset_graph()
    assert len(graph.get_all_asset_keys()) == 10
    Definitions.validate_loadable(definitions)


def test_a_key_does_not_depend_on_the_other_tables() -> None:
    odd, plain = 'public."two words"', "public.two_words"
    assert keys(odd, plain) == keys(odd) + keys(plain)
    assert keys(plain, odd) == keys(plain) + keys(odd)


def test_a_table_is_called_as_dbt_calls_it() -> None:
    assert keys("shop.order__items")[-1] == "shop/order__items"
    assert keys({"source": "public.orders", "target": "raw._orders"})[-1] == "raw/_orders"


def test_a_source_that_is_copied_twice_gets_two_sets_of_keys_and_is_one_table() -> None:
    tables = ["public.orders", {"source": "public.orders", "target": "archive.orders", "where": "closed"}]
    assert len(set(keys(*tables))) == 8
    graph = build_definitions(parse_config({"tables": tables})).resolve_asset_graph()
    assert len(graph.get_all_asset_keys()) == 9
    assert graph.get(AssetKey(["source", "public", "orders"])).child_keys == {
        AssetKey(["public", "orders_source_snapshot"]),
        AssetKey(["archive", "orders_source_snapshot"]),
    }


def test_each_table_is_a_group() -> None:
    config = parse_config({"tables": ["sales.orders", {"source": '"my schema".t', "target": "copy.t"}]})
    graph = build_definitions(config).resolve_asset_graph()
    groups = {node.key.to_user_string(): node.group_name for node in graph.asset_nodes}
    assert groups["sales/orders"] == groups["sales/orders_csv_extract"] == "sales__orders"
    assert groups["source/sales/orders"] == "sales__orders"
    assert groups["copy/t"] == "copy__t"


def test_a_station_is_selected_by_its_tag() -> None:
    definitions = build_definitions(parse_config({"tables": ["a.b", "a.c"]}))
    selected = AssetSelection.from_string("tag:xmin_assets/station=csv_extract")
    found = selected.resolve(definitions.resolve_asset_graph())
    assert found == {AssetKey(["a", "b_csv_extract"]), AssetKey(["a", "c_csv_extract"])}


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_names_stay_different(one: str, other: str) -> None:
    assert (legal_schema(one) == legal_schema(other)) == (one == other)
    assert (legal_table(one) == legal_table(other)) == (one == other)


SMALL = st.text("ab_", min_size=1)
STATION = st.sampled_from(["", "_csv_extract", "_staged_table"])


@given(SMALL, SMALL, STATION, SMALL, SMALL, STATION)
def test_two_tables_never_name_the_same_op(
    schema: str, table: str, station: str, schema2: str, table2: str, station2: str
) -> None:
    name, name2 = table + station, table2 + station2
    ops, ops2 = (
        {f"{legal_schema(where)}__{legal_table(what)}{suffix}" for suffix in ("", "_csv_extract", "_staged_table")}
        for where, what in ((schema, name), (schema2, name2))
    )
    assert bool(ops & ops2) == ((schema, name) == (schema2, name2))


def test_building_assets_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_definitions(parse_config({"tables": ["public.orders"]}))
