"""The grants that the README tells people to give, given as they stand there, are enough, and nothing less is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2 import sql

from xmin_assets_tests.acceptance.conftest import Cli
from xmin_assets_tests.clusters import Database

README = Path(__file__).parents[2] / "README.md"
PASSWORD = "only for this test"

pytestmark = pytest.mark.skipif(not README.exists(), reason="installed without its project folder")


def statements(number: int) -> list[str]:
    """Of one of the README's blocks of grants: 0 for the source, 1 for a database of one's own, 2 for another's."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```sql\n(CREATE ROLE.*?|GRANT.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    return [line for line in blocks[number].splitlines() if line]


@pytest.fixture
def source(source_db: Database) -> Iterator[str]:
    """The URL of the README's reader."""
    source_db.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE customers (id int PRIMARY KEY)")
    source_db.execute("INSERT INTO orders VALUES (1), (2); INSERT INTO customers VALUES (1)")
    source_db.execute(f"REVOKE ALL ON DATABASE {source_db.name} FROM PUBLIC")
    for statement in statements(0):
        source_db.execute(
            statement.replace("'...'", f"'{PASSWORD}'").replace("DATABASE app", f"DATABASE {source_db.name}")
        )
    yield source_db.url_as("reader", PASSWORD)
    source_db.execute("DROP OWNED BY reader; DROP ROLE reader")


@pytest.fixture(params=["own database", "another's database"])
def target(target_db: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database in which the README's writer has the rights that it names."""
    create_role, create_database = statements(1)
    target_db.execute(create_role.replace("'...'", f"'{PASSWORD}'"))
    copies = Database(target_db.cluster, "copies")
    if request.param == "own database":
        target_db.execute(create_database)
    else:
        target_db.execute("CREATE DATABASE copies")
        target_db.execute("REVOKE ALL ON DATABASE copies FROM PUBLIC")
        for statement in statements(2):
            copies.execute(statement)
    yield copies
    copies.drop()
    target_db.execute("DROP ROLE writer")


def test_they_are_enough(cli: Cli, source_db: Database, source: str, target: Database) -> None:
    cli.environment |= {"XMIN_SOURCE_URL": source, "XMIN_TARGET_URL": target.url_as("writer", PASSWORD)}
    cli.write_config("tables: [public.orders, {source: public.customers, target: elsewhere.customers}]")

    for change in (
        "",
        "INSERT INTO orders VALUES (3)",
        "DELETE FROM orders WHERE id = 1",
        "ALTER TABLE orders ADD n int",
    ):
        if change:
            source_db.execute(change)
        run = cli("sync")
        assert run.status == 0, run.stderr
        assert cli("verify").status == 0
    assert target.fetch("SELECT id, n FROM orders ORDER BY id") == [(2, None), (3, None)]
    assert cli("status").status == 0
    assert cli("clean").status == 0


def test_without_any_of_them_the_missing_one_is_named(cli: Cli, source_db: Database, source: str) -> None:
    cli.environment["XMIN_SOURCE_URL"] = source
    cli.configure("public.orders")
    for statement in statements(0)[1:]:
        granted = statement.replace("DATABASE app", f"DATABASE {source_db.name}")
        source_db.execute(granted.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))

        run = cli("sync")

        assert run.status == 1
        assert "permission denied" in run.stderr, statement
        assert len(run.errors) <= 2
        source_db.execute(sql.SQL(granted))
