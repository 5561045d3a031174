"""Common mistakes get one or two clear lines, the right exit status, and change nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from xmin_assets_tests.acceptance.conftest import Cli, Run
from xmin_assets_tests.clusters import Database


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, held so that nobody else takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def orders(source_db: Database, cli: Cli) -> Database:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    source_db.execute("INSERT INTO orders VALUES (1), (2)")
    cli.configure("public.orders")
    return source_db


def assert_mistake(run: Run, status: int, *words: str) -> None:
    """One error, in one or two lines on stderr, that has these words."""
    assert run.status == status, run
    assert run.stdout == ""
    assert 1 <= len(run.errors) <= 2, run.stderr
    assert run.stderr.startswith("Error: ")
    for word in words:
        assert word in run.stderr


def assert_untouched(target: Database) -> None:
    assert target.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []


@pytest.mark.parametrize("command", ["sync", "plan", "status", "verify", "clean", "resync --all"])
def test_a_missing_configuration_is_named_with_the_least_that_works(unconnected_cli: Cli, command: str) -> None:
    run = unconnected_cli(*command.split())

    assert_mistake(run, 2, unconnected_cli.environment["XMIN_CONFIG"], "--config", "tables: [{source: public.orders}]")


def test_an_unknown_key_is_answered_with_the_nearest_one(cli: Cli, orders: Database, target_db: Database) -> None:
    cli.write_config("tables:\n  - source: public.orders\n    modee: full_sync\n")

    assert_mistake(cli("sync"), 2, "table public.orders: unknown key 'modee'. Did you mean mode?")
    assert_untouched(target_db)


@pytest.mark.parametrize(("variable", "side"), [("XMIN_SOURCE_URL", "source"), ("XMIN_TARGET_URL", "target")])
def test_a_missing_connection_string_is_named(cli: Cli, orders: Database, variable: str, side: str) -> None:
    del cli.environment[variable]

    assert_mistake(cli("sync"), 2, f"No {side} database is configured", variable)


def test_a_connection_string_that_cannot_be_read_is_not_repeated(cli: Cli, orders: Database) -> None:
    run = cli("sync", XMIN_SOURCE_URL="postgresql://user:s3cr%zzt@localhost/db")

    assert_mistake(run, 2, "The source connection string cannot be read")
    assert "s3cr" not in run.stderr


@pytest.mark.parametrize(("variable", "side"), [("XMIN_SOURCE_URL", "source"), ("XMIN_TARGET_URL", "target")])
@pytest.mark.parametrize("command", ["sync", "plan"])
def test_a_server_that_cannot_be_reached_is_one_line_for_all_tables(
    cli: Cli, orders: Database, closed_port: int, command: str, variable: str, side: str
) -> None:
    for number in range(5):
        orders.execute(f"CREATE TABLE table_{number} (id int PRIMARY KEY)")
    cli.configure(*(f"public.table_{number}" for number in range(5)))

    run = cli(command, **{variable: f"postgresql://someone@127.0.0.1:{closed_port}/somewhere"})

    assert_mistake(
        run, 1, "public.table_0, public.table_1, public.table_2 and 2 more", f"{side} 127.0.0.1:{closed_port}"
    )
    assert len(run.errors) == 1


def test_each_table_has_its_error_in_json(cli: Cli, orders: Database, closed_port: int) -> None:
    cli.configure("public.orders", "public.items")

    run = cli("sync", "--json", XMIN_SOURCE_URL=f"postgresql://someone@127.0.0.1:{closed_port}/somewhere")

    assert run.status == 1
    assert [table["status"] for table in run.json["tables"]] == ["failed", "failed"]
    assert all("No connection to the source" in table["error"] for table in run.json["tables"])
    assert all(table["rows_inserted"] == 0 for table in run.json["tables"])


def test_a_wrong_password_is_said_without_the_password(cli: Cli, orders: Database, target_db: Database) -> None:
    wrong = orders.url_as("postgres", "not-the-Passw0rd")

    run = cli("sync", XMIN_SOURCE_URL=wrong)

    assert_mistake(run, 1, 'password authentication failed for user "postgres"')
    assert "Passw0rd" not in run.stderr
    assert_untouched(target_db)


def test_a_table_that_the_source_lacks_is_answered_with_the_nearest_one(
    cli: Cli, orders: Database, target_db: Database
) -> None:
    cli.configure("public.order")

    assert_mistake(cli("sync"), 1, "public.order", "Did you mean public.orders?")
    assert_untouched(target_db)


def test_a_table_that_is_not_configured_is_answered_with_the_nearest_one(cli: Cli, orders: Database) -> None:
    assert_mistake(cli("sync", "ordres"), 2, "Table ordres is not configured. Did you mean orders?")


def test_a_table_of_somebody_else_in_the_target_is_left_alone(cli: Cli, orders: Database, target_db: Database) -> None:
    target_db.execute("CREATE TABLE orders (id int PRIMARY KEY, mine text)")
    target_db.execute("INSERT INTO orders VALUES (1, 'precious')")

    run = cli("sync")

    assert_mistake(run, 1, "public.orders", "was not made by this project", "adopt: true")
    assert target_db.fetch("SELECT * FROM orders") == [(1, "precious")]


def test_a_table_without_a_key_is_refused_with_the_way_out(cli: Cli, orders: Database, target_db: Database) -> None:
    orders.execute("CREATE TABLE log (line text)")
    cli.configure("public.log")

    assert_mistake(cli("sync"), 1, "public.log", "key")
    assert_untouched(target_db)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("synk",), "Did you mean sync?"),
        (("sync", "--batchsize", "5"), "Did you mean '--batch-size'?"),
        (("sync", "--workers", "many"), "'many' is not a valid integer"),
        (("resync",), "Name the tables to resync, or give --all."),
        (("resync", "orders", "--all"), "Name the tables to resync, or give --all."),
        (("demo", "upp"), "Did you mean 'up'?"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(unconnected_cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    run = unconnected_cli(*arguments)

    assert (run.status, run.stdout) == (2, "")
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_a_setting_out_of_bounds_is_a_mistake_of_the_command(cli: Cli, orders: Database) -> None:
    assert_mistake(cli("sync", "--workers", "0"), 2, "workers should be greater than or equal to 1, not 0.")


def test_debug_shows_where_an_error_came_from(cli: Cli, orders: Database) -> None:
    cli.configure("public.missing")

    assert "Traceback" in cli("sync", "--debug").stderr
    assert "Traceback" in cli("sync", "--debug", "--config", "nowhere.yaml").stderr
    assert "Traceback" not in cli("sync").stderr


def test_debug_shows_what_the_driver_said(cli: Cli, orders: Database) -> None:
    orders.execute("CREATE TABLE loose (id int)")
    orders.execute("ALTER TABLE loose ADD c point")
    cli.configure("public.loose", mode="incremental_sync", cursor="c", key=["id"])

    plain, debug = cli("plan"), cli("plan", "--debug")

    assert "whose values have no order" in plain.stderr + plain.stdout
    assert "operator does not exist" not in plain.stderr + plain.stdout
    assert "psycopg2.errors.UndefinedFunction: operator does not exist: point >= point" in debug.stderr
    assert "The above exception was the direct cause" in debug.stderr
