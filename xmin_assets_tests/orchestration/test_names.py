"""Asset keys: legal, unique, and the same whatever else is configured."""

from __future__ import annotations

import warnings

import pytest
from dagster import Definitions
from hypothesis import given
from hypothesis import strategies as st

from xmin_assets.config import parse_config
from xmin_assets.orchestration.assets import build_xmin_assets
from xmin_assets.orchestration.definitions_builder import build_definitions
from xmin_assets.orchestration.names import legal


def keys(*tables: object) -> list[str]:
    assets = build_xmin_assets(parse_config({"tables": list(tables)}))
    return [key.to_user_string() for asset in assets for key in asset.keys]


def test_a_table_has_four_assets_keyed_by_schema_table_and_station() -> None:
    assert keys("sales.orders") == [
        "sales/orders/source_snapshot",
        "sales/orders/csv_extract",
        "sales/orders/staged_table",
        "sales/orders/merged_target",
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
]


@pytest.mark.parametrize(("one", "other"), ODD_PAIRS)
def test_odd_names_load_side_by_side(one: str, other: str) -> None:
    definitions = build_definitions(parse_config({"tables": [one, other]}))
    graph = definitions.resolve_asset_graph()
    assert len(graph.get_all_asset_keys()) == 8
    Definitions.validate_loadable(definitions)


def test_a_key_does_not_depend_on_the_other_tables() -> None:
    odd, plain = 'public."two words"', "public.two_words"
    assert keys(odd, plain) == keys(odd) + keys(plain)
    assert keys(plain, odd) == keys(plain) + keys(odd)


def test_a_source_that_is_copied_twice_gets_two_sets_of_keys() -> None:
    first = "public.orders"
    second = {"source": "public.orders", "target": "archive.orders", "where": "closed"}
    both = keys(first, second)
    assert both[:4] == keys(first)
    assert len(set(both)) == 8


def test_assets_are_grouped_by_the_schema_of_the_source() -> None:
    assets = build_xmin_assets(
        parse_config({"tables": ["sales.orders", {"source": '"my schema".t', "target": "copy.t"}]})
    )
    groups = [set(asset.group_names_by_key.values()) for asset in assets]
    assert groups[:4] == [{"sales"}] * 4
    assert groups[4:] == [{legal("my schema")}] * 4


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_names_stay_different(one: str, other: str) -> None:
    assert (legal(one) == legal(other)) == (one == other)


SMALL = st.text("ab_", min_size=1)


@given(SMALL, SMALL, SMALL, SMALL)
def test_two_tables_never_name_the_same_op(schema: str, table: str, schema2: str, table2: str) -> None:
    same = f"{legal(schema)}__{legal(table)}" == f"{legal(schema2)}__{legal(table2)}"
    assert same == ((schema, table) == (schema2, table2))


def test_building_assets_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_definitions(parse_config({"tables": ["public.orders"]}))
