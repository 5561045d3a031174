"""Connections are cut in the middle of what they carry, or are slow."""

from __future__ import annotations

import pytest

from xmin_assets.replication.sync import sync_tables
from xmin_assets_tests.integration.faults.items import TABLE, Items
from xmin_assets_tests.integration.faults.places import happening
from xmin_assets_tests.integration.faults.proxy import Proxy, proxy_to

PLACES = ["after the rows were counted", "after a file was loaded", "after the rows were written", "before the commit"]


def through(items: Items, monkeypatch: pytest.MonkeyPatch, source: Proxy, target: Proxy) -> None:
    monkeypatch.setenv("XMIN_SOURCE_URL", source.url(items.replica.source))
    monkeypatch.setenv("XMIN_TARGET_URL", target.url(items.replica.target))


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("place", PLACES)
def test_a_sync_whose_connections_are_cut_begins_again(
    items: Items, monkeypatch: pytest.MonkeyPatch, place: str, side: str
) -> None:
    with proxy_to(items.replica.source) as source, proxy_to(items.replica.target) as target:
        through(items, monkeypatch, source, target)
        with happening(place, (source if side == "source" else target).cut) as happened:
            (result,) = sync_tables(items.replica.config(TABLE)).tables

    assert happened.is_set()
    assert result.status == "success", result.error
    items.assert_well()


@pytest.mark.parametrize("size", [20_000, 200_000, 600_000])
def test_a_cut_in_the_middle_of_a_file_leaves_no_half_of_it(
    items: Items, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    items.replica.source.execute("UPDATE items SET n = n + 1")
    with proxy_to(items.replica.source) as source, proxy_to(items.replica.target) as target:
        through(items, monkeypatch, source, target)
        source.cut_after = size
        (result,) = sync_tables(items.replica.config(TABLE)).tables
        assert source.cut_after is None

    assert result.status == "success", result.error
    items.assert_well()


def test_a_slow_network_only_takes_longer(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_to(items.replica.source, 0.02) as source, proxy_to(items.replica.target, 0.02) as target:
        through(items, monkeypatch, source, target)
        (result,) = sync_tables(items.replica.config(TABLE)).tables

    assert result.status == "success", result.error
    items.assert_well()
