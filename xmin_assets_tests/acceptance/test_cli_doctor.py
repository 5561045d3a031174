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
    assert [line.split()[-4:] for line in third.stdout.splitlines() if line.startswith("target")] == [
        ["10", "of", "10", "facts"]
    ]
    (table,) = cli("doctor", "--json").json["tables"]
    assert (table["table"], table["fast"], table["missing"], table["error"]) == ("public.orders", True, [], None)


def test_what_tables_have_in_common_is_said_once(cli: Cli, source_db: Database) -> None:
    tables = [f"t{number}" for number in range(6)]
    for table in tables:
        source_db.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
    cli.write_config("tables: [{source: t0, track_blocks: true}, {source: t1, mode: full_sync}, t2, t3, t4, t5]")

    lines = cli("doctor").stdout.splitlines()

    said = lines[: next(number for number, line in enumerate(lines) if line.startswith("source  "))]
    assert "public.t0  reads every block" in said
    assert "public.t1  reads every block" in said
    assert said[said.index("4 tables  read every block") + 1] == "  public.t2, public.t3, public.t4, public.t5"
    assert len([line for line in said if "deleted rows are looked for by their keys" in line]) == 1


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


@pytest.fixture
def rented(cli: Cli, source_db: Database) -> Iterator[Database]:
    """A source with a table that a role may read."""
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY); CREATE ROLE renter LOGIN PASSWORD 'for this test'")
    source_db.execute("GRANT SELECT ON orders TO renter")
    cli.environment["XMIN_SOURCE_URL"] = source_db.url_as("renter", "for this test")
    cli.configure("public.orders")
    yield source_db
    source_db.execute("DROP OWNED BY renter; DROP ROLE renter")


def test_what_the_servers_do_not_tell_is_said_with_what_it_costs_and_the_grant(
    cli: Cli, rented: Database, target_db: Database
) -> None:
    rented.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    cli("sync")
    target_db.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$")
    target_db.execute("CREATE TRIGGER audit BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION f()")

    run = cli("doctor")
    shown = cli("doctor", "--json").json

    assert run.status == 0, run.stderr
    assert "GRANT EXECUTE ON FUNCTION pg_control_system() TO the role" in run.stdout
    assert "in the target fire in every merge: " in run.stdout and "audit" in run.stdout
    source, target = shown["servers"]
    assert [fact["name"] for fact in source["facts"] if not fact["told"]] == ["system identifier"]
    assert (target["side"], target["error"], all(fact["told"] for fact in target["facts"])) == ("target", None, True)


@pytest.mark.parametrize("columns", [80, 160])
def test_the_facts_are_a_table_that_fits_the_terminal(cli: Cli, rented: Database, columns: int) -> None:
    rented.execute("REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC")
    cli.environment["COLUMNS"] = str(columns)

    lines = cli("doctor").stdout.splitlines()

    facts = lines[next(number for number, line in enumerate(lines) if line.startswith("source  ")) :]
    assert max(map(len, facts)) <= columns
    (row,) = (number for number, line in enumerate(facts) if line.strip().startswith("insert position"))
    cell = " ".join(" ".join(facts[row : row + 8]).split())
    assert cell.startswith("insert position no shows that a primary")
    assert "the history is not proven" in cell
    assert "  GRANT EXECUTE ON FUNCTION pg_current_wal_insert_lsn() TO the role;" in facts
    assert ("the grant that gives it" in " ".join(facts)) is (columns == 160)


def test_what_no_sync_can_do_without_is_marked_and_ends_with_one(cli: Cli, rented: Database) -> None:
    rented.execute("REVOKE EXECUTE ON FUNCTION pg_current_snapshot() FROM PUBLIC")

    run = cli("doctor")
    planned = cli("plan")

    assert run.status == 1
    assert [line.split()[:3] for line in run.stdout.splitlines() if "NEEDED" in line] == [
        ["transaction", "ids", "NEEDED"]
    ]
    assert planned.status == 1
    assert "the server refuses pg_current_snapshot, pg_snapshot_xmin" in planned.stderr
    assert (
        "GRANT EXECUTE ON FUNCTION pg_current_snapshot(), pg_snapshot_xmin(pg_snapshot) TO the role" in planned.stderr
    )
