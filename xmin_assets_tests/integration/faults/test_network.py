"""Connections are cut in the middle of what they carry, or are slow."""

from __future__ import annotations

import pytest

from xmin_assets.replication.sync import sync_tables
from xmin_assets_tests.integration.faults.failpoints import at_failpoint
from xmin_assets_tests.integration.faults.proxy import Proxy, proxy_to
from xmin_assets_tests.integration.faults.watched_table import TABLE, WatchedTable

FAILPOINTS = [
    "after the rows were counted",
    "after a file was loaded",
    "after the rows were written",
    "before the commit",
]


def through(watched: WatchedTable, monkeypatch: pytest.MonkeyPatch, source: Proxy, target: Proxy) -> None:
    monkeypatch.setenv("XMIN_SOURCE_URL", source.url(watched.replica.source))
    monkeypatch.setenv("XMIN_TARGET_URL", target.url(watched.replica.target))


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_sync_whose_connections_are_cut_begins_again(
    watched: WatchedTable, monkeypatch: pytest.MonkeyPatch, failpoint: str, side: str
) -> None:
    with proxy_to(watched.replica.source) as source, proxy_to(watched.replica.target) as target:
        through(watched, monkeypatch, source, target)
        with at_failpoint(failpoint, (source if side == "source" else target).cut) as happened:
            (result,) = sync_tables(watched.replica.config(TABLE)).tables

    assert happened.is_set()
    assert result.status == "success", result.error
    watched.assert_well()


@pytest.mark.parametrize("size", [20_000, 200_000, 600_000])
def test_a_cut_in_the_middle_of_a_file_leaves_no_half_of_it(
    watched: WatchedTable, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    watched.replica.source.execute("UPDATE items SET n = n + 1")
    with proxy_to(watched.replica.source) as source, proxy_to(watched.replica.target) as target:
        through(watched, monkeypatch, source, target)
        source.cut_after = size
        (result,) = sync_tables(watched.replica.config(TABLE)).tables
        assert source.cut_after is None

    assert result.status == "success", result.error
    watched.assert_well()


def test_a_slow_network_only_takes_longer(watched: WatchedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_to(watched.replica.source, 0.02) as source, proxy_to(watched.replica.target, 0.02) as target:
        through(watched, monkeypatch, source, target)
        (result,) = sync_tables(watched.replica.config(TABLE)).tables

    assert result.status == "success", result.error
    watched.assert_well()
