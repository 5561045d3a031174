"""``xmin-assets doctor`` says, in words, which path each table gets and what to change to get the fast one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.acceptance.conftest import Cli
from xmin_assets_tests.clusters import Database


@pytest.fixture
def summarized(summarizing_server: Cluster, cli: Cli) -> Iterator[Database]:
    """A source that summarizes its WAL, with a table."""
    database = Database.create(summarizing_server)
    database.execute("CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)")
    cli.environment["XMIN_SOURCE_URL"] = database.url
    yield database
    database.drop()


def test_what_is_missing_is_said_with_what_to_change(cli: Cli, source_db: Database) -> None:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    cli.configure("public.orders")

    run = cli("doctor")

    assert (run.status, run.stderr) == (0, "")
    assert run.stdout.startswith("public.orders  reads every block\n")
    assert "summarize_wal" in run.stdout or "PostgreSQL 17 or newer" in run.stdout
    assert "track_blocks: true" in run.stdout


def test_each_thing_that_is_mended_is_no_longer_named(cli: Cli, summarized: Database) -> None:
    cli.configure("public.orders")
    first = cli("doctor").stdout
    summarized.execute("CREATE EXTENSION pg_walinspect")
    second = cli("doctor").stdout
    cli.configure("public.orders", track_blocks=True)
    third = cli("doctor")

    assert "CREATE EXTENSION pg_walinspect" in first and "track_blocks: true" in first
    assert "CREATE EXTENSION pg_walinspect" not in second and "track_blocks: true" in second
    summarized.execute("CREATE TABLE loose (id int)")
    cli.configure("public.loose", track_blocks=True, key="id")
    assert "no unique index guarantees its key" in cli("doctor").stdout
    cli.configure("public.orders", track_blocks=True)
    assert third.stdout == "public.orders  reads only the blocks that changed\n"
    (table,) = cli("doctor", "--json").json["tables"]
    assert (table["table"], table["fast"], table["missing"], table["error"]) == ("public.orders", True, [], None)


def test_what_it_promises_is_what_the_next_syncs_do(cli: Cli, summarized: Database) -> None:
    summarized.execute("CREATE EXTENSION pg_walinspect")
    summarized.execute("CREATE TABLE wide AS SELECT i AS id, repeat('x', 800) AS v FROM generate_series(1, 500) i")
    summarized.execute("ALTER TABLE wide ADD PRIMARY KEY (id)")
    cli.configure("public.wide", track_blocks=True)
    assert cli("sync", "--json").table["blocks_changed"] is None
    summarized.execute("UPDATE wide SET v = 'y' WHERE id = 1")

    planned = cli("plan").stdout
    synced = cli("sync", "--json").table

    assert "reads blocks changed since WAL position" in planned
    assert 0 < synced["blocks_changed"] < 10
    assert "blocks: those changed since WAL position" in synced["path"]
    assert synced["rows_updated"] == 1


def test_a_table_that_is_not_there_is_an_error(cli: Cli, summarized: Database) -> None:
    cli.configure("public.order")

    run = cli("doctor")

    assert run.status == 1
    assert "Did you mean public.orders?" in run.stderr
