"""Passwords are in nothing that the command prints or leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg2 import sql

from xmin_assets_tests.acceptance.conftest import Cli
from xmin_assets_tests.clusters import Database

SECRET = "p@ss/w0rd:with%signs and a space"


@pytest.fixture
def role(source_db: Database) -> Iterator[str]:
    """A role of the source whose password needs escapes in a URL."""
    name = f"reader_of_{source_db.name}"
    source_db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(SECRET)))
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    source_db.execute("INSERT INTO orders VALUES (1)")
    source_db.execute(sql.SQL("GRANT SELECT ON orders TO {}").format(sql.Identifier(name)))
    yield name
    source_db.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    source_db.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def assert_hidden(text: str) -> None:
    assert SECRET not in text
    assert quote(SECRET, safe="") not in text
    assert quote(SECRET) not in text


@pytest.mark.parametrize("command", ["sync", "plan --json", "status", "resync --all", "clean", "sync --json"])
def test_no_command_prints_a_password(cli: Cli, source_db: Database, role: str, command: str) -> None:
    cli.configure("public.orders", "public.missing")

    run = cli(*command.split(), "--debug", XMIN_SOURCE_URL=source_db.url_as(role, SECRET))

    assert run.status in (0, 1)
    assert_hidden(run.stdout + run.stderr)


def test_a_password_of_the_configuration_file_is_hidden_too(cli: Cli, source_db: Database, role: str) -> None:
    del cli.environment["XMIN_SOURCE_URL"]
    wrong = SECRET + "!"
    cli.write_config(f"source: '{source_db.url_as(role, wrong)}'\ntables: [public.orders]\n")

    run = cli("sync", "--debug")

    assert run.status == 1
    assert "password authentication failed" in run.stderr
    assert_hidden(run.stdout + run.stderr)


def test_a_mistake_beside_a_password_does_not_show_it(cli: Cli) -> None:
    cli.write_config("source: 'postgresql://user:hunter2@localhost/db\ntables: [public.orders]\n")
    broken_yaml = cli("sync", "--debug")
    cli.write_config("source: ['postgresql://user:hunter2@localhost/db']\ntables: [public.orders]\n")
    wrong_type = cli("sync", "--debug")

    for run in (broken_yaml, wrong_type):
        assert run.status == 2
        assert "hunter2" not in run.stdout + run.stderr


def test_no_password_stays_in_the_spool(cli: Cli, source_db: Database, role: str) -> None:
    cli.configure("public.orders")

    assert cli("sync", XMIN_SOURCE_URL=source_db.url_as(role, SECRET)).status == 0

    for file in Path(cli.environment["XMIN_SPOOL"]).rglob("*"):
        if file.is_file():
            assert_hidden(file.read_text())
