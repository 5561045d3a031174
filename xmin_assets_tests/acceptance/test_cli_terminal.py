"""On a terminal a sync shows bars on stderr, in colours unless none are wanted."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest

from xmin_assets_tests.acceptance.conftest import COMMAND, Cli
from xmin_assets_tests.clusters import Database

COLOURED = re.compile(r"\x1b\[[0-9;]*3[0-9]")


def on_a_terminal(cli: Cli, *arguments: str, **environment: str) -> tuple[str, str]:
    """Run a command that succeeds with stderr on a terminal; return stdout, and what the terminal got."""
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, *arguments],
        cwd=cli.folder,
        env=cli.environment | {"TERM": "xterm-256color"} | environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as running:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(terminal, 65536):
                shown += piece
        except OSError:  # Linux says EIO when the other end is closed
            pass
        finally:
            os.close(terminal)
        assert running.stdout is not None
        printed = running.stdout.read()
    assert running.returncode == 0
    return printed, shown.decode()


@pytest.fixture
def orders(source_db: Database, cli: Cli) -> Database:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    source_db.execute("INSERT INTO orders SELECT generate_series(1, 20000)")
    cli.configure("public.orders")
    return source_db


def test_bars_name_the_table_and_its_station_and_stdout_stays_json(cli: Cli, orders: Database) -> None:
    printed, shown = on_a_terminal(cli, "sync", "--json")

    assert json.loads(printed)["tables"][0]["rows_inserted"] == 20000
    assert "public.orders" in shown
    assert any(station in shown for station in ("snapshot", "extract", "stage", "merge"))
    assert COLOURED.search(shown)


def test_no_colour_is_shown_where_none_is_wanted(cli: Cli, orders: Database) -> None:
    _, shown = on_a_terminal(cli, "sync", "--json", NO_COLOR="1")

    assert "public.orders" in shown
    assert not COLOURED.search(shown)
