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
    assert third.stdout.startswith("public.orders  reads only the blocks that changed\nsource  PostgreSQL ")
    assert third.stdout.splitlines()[-1].endswith("tells 4 of 4 facts")
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


def test_what_the_servers_do_not_tell_is_said_with_what_it_costs_and_the_grant(
    cli: Cli, source_db: Database, target_db: Database
) -> None:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY); CREATE ROLE renter LOGIN PASSWORD 'for this test'")
    source_db.execute("GRANT SELECT ON orders TO renter; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    cli.environment["XMIN_SOURCE_URL"] = source_db.url_as("renter", "for this test")
    cli.configure("public.orders")
    cli("sync")
    target_db.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$")
    target_db.execute("CREATE TRIGGER audit BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION f()")

    run = cli("doctor")
    shown = cli("doctor", "--json").json

    source_db.execute("DROP OWNED BY renter; DROP ROLE renter")
    assert run.status == 0, run.stderr
    assert "system identifier: tells another cluster from this one" in run.stdout
    assert "GRANT EXECUTE ON FUNCTION pg_control_system() TO the role" in run.stdout
    assert "in the target fire in every merge: " in run.stdout and "audit" in run.stdout
    source, target = shown["servers"]
    assert [fact["name"] for fact in source["facts"] if not fact["told"]] == ["system identifier"]
    assert (target["side"], target["error"], all(fact["told"] for fact in target["facts"])) == ("target", None, True)
