"""The demo from the command line: up, a sync, a workload, down."""

from __future__ import annotations

import re

from xmin_assets_tests.acceptance.conftest import Cli


def test_the_demo_goes_up_is_used_and_goes_down_again(unconnected_cli: Cli) -> None:
    cli = unconnected_cli
    cli.configure("public.customers")
    try:
        up = cli("demo", "up", "--json")
        assert up.status == 0, up.stderr
        assert up.json["started"] == ["source", "target"]
        passwords = re.findall(r"://[^:]+:([^@]+)@", (cli.folder / ".env").read_text())
        assert len(passwords) == 3

        assert cli("sync", "--json").table["rows_inserted"] == 50_000

        again = cli("demo", "up")
        load = cli("demo", "load", "--seconds", "1", "--json")
        assert (again.status, load.status) == (0, 0)
        assert "already running" in again.stdout
        assert load.json["transactions"] > 0

        said = "".join(run.stdout + run.stderr for run in (up, again, load))
        assert not any(password in said for password in passwords)
    finally:
        down = cli("demo", "down", "--purge", "--json")
    assert (down.status, down.json) == (0, {"stopped": ["source", "target"], "purged": True})
    assert not (cli.folder / ".env").exists()
    assert "were not running" in cli("demo", "down").stdout


def test_a_workload_without_the_demo_says_how_to_start_it(unconnected_cli: Cli) -> None:
    run = unconnected_cli("demo", "load")

    assert run.status == 1
    assert "xmin-assets demo up" in run.stderr
