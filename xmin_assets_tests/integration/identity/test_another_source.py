"""Another source behind the address: a copy of the same rows goes on by itself, with other rows somebody is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.errors import MassChange
from xmin_assets.replication.manifests.report import TableResult
from xmin_assets.replication.sync import resync_tables
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.conftest import one_mode
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import await_replay, create_database, standby_of

pytestmark = one_mode

TABLE: dict[str, Any] = {"source": "public.customers"}
CREATE = "CREATE TABLE customers (id int PRIMARY KEY, name text, mail text)"
FILL = "INSERT INTO customers SELECT i, '{0}' || i, '{0}@' || i FROM generate_series({1}, {2}) i"


@dataclass
class Tenants:
    """One copy, and databases that may be its source."""

    replica: Replica
    """Of the first of them."""
    other: Database

    def of_other(self) -> Replica:
        """The same copy, fed by the other one."""
        return replace(self.replica, source=self.other)

    def left(self) -> tuple[Any, ...]:
        """All that a sync may change in the target."""
        target = self.replica.target
        return (
            target.fetch("SELECT * FROM customers ORDER BY id"),
            target.fetch("SELECT * FROM xmin_assets.state"),
            target.fetch("SELECT * FROM xmin_assets.history"),
        )


def fill(database: Database, name: str, first: int = 1, last: int = 1500, create: str = CREATE) -> None:
    database.execute(f"{create}; {FILL.format(name, first, last)}")


def refused(result: TableResult) -> str:
    assert result.status == "failed"
    return result.error or ""


@pytest.fixture
def other(source_db: Database) -> Iterator[Database]:
    """Another database of the source's cluster."""
    made = Database.create(source_db.cluster)
    yield made
    made.drop()


@pytest.fixture
def tenants(source_db: Database, other: Database, target_db: Database, tmp_path: Path, blocks: str) -> Tenants:
    return Tenants(Replica(source_db, target_db, tmp_path / "spool", {"workers": 2}), other)


def oid_of(database: Database) -> int:
    ((oid,),) = database.fetch("SELECT oid::int8 FROM pg_database WHERE datname = current_database()")
    return int(oid)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"deletes": "soft"},
        {"deletes": "ignore"},
        {"mode": "full_sync"},
        {"mode": "incremental_sync", "cursor": "id"},
        {"deletes": "ignore", "mode": "incremental_sync", "cursor": "id"},
    ],
)
def test_rows_of_another_database_replace_none_until_it_is_allowed_once(
    tenants: Tenants, options: dict[str, Any]
) -> None:
    """Of 1500 rows 1480 would change, 20 go: no breaker for deletes would speak."""
    table = {**TABLE, **options}
    fill(tenants.replica.source, "a")
    fill(tenants.other, "b", last=1480)
    tenants.replica.sync(table)
    before = tenants.left()

    first = refused(tenants.of_other().try_sync(table))
    second = refused(tenants.of_other().try_sync(table, allow_mass_delete=True))

    assert tenants.left() == before
    assert first == second
    for database in (tenants.replica.source, tenants.other):
        assert f"in the database {database.name} (oid {oid_of(database)}) on timeline 1 of the cluster" in first
    if options.get("deletes") == "ignore":
        assert "of the source's 1480 rows, only 0 are among the target's 1500" in first
    else:
        assert "would change or delete 1500 of the target's 1500 rows" in first
    assert "--allow-mass-change" in first and "allow_mass_change" in first
    allowed = tenants.of_other().sync(table, allow_mass_change=True)
    deleted = 0 if options.get("deletes") == "ignore" else 20
    assert counts(allowed) == (1480, 0, 1480, deleted)
    later = tenants.of_other().sync(table)
    assert later.rows_updated == later.rows_inserted == later.rows_deleted == 0
    back = refused(tenants.replica.try_sync(table))
    assert "allow-mass-change" in back


def test_both_breakers_are_lifted_each_for_itself(tenants: Tenants) -> None:
    fill(tenants.replica.source, "a", last=3000)
    fill(tenants.other, "b", last=100)
    tenants.replica.sync(TABLE)

    assert "--allow-mass-delete" in refused(tenants.of_other().try_sync(TABLE, allow_mass_change=True))
    assert "--allow-mass-change" in refused(tenants.of_other().try_sync(TABLE, allow_mass_delete=True))
    both = tenants.of_other().sync(TABLE, allow_mass_delete=True, allow_mass_change=True)
    assert counts(both) == (100, 0, 100, 2900)


def test_the_share_is_of_changed_and_deleted_rows_together_and_can_be_set(tenants: Tenants) -> None:
    """Of 2000 rows 600 are others and 300 are gone; 100 that came change nothing of what is there."""
    fill(tenants.replica.source, "a", last=2000)
    fill(tenants.other, "a", last=1100)
    tenants.other.execute(FILL.format("b", 1101, 1700) + ";" + FILL.format("new", 5001, 5100))
    tenants.replica.sync(TABLE)

    error = refused(tenants.of_other().try_sync({**TABLE, "max_change_share": 0.44}))
    result = tenants.of_other().sync({**TABLE, "max_change_share": 0.45})

    assert (
        "would change or delete 900 of the target's 2000 rows, and the allowed share of rows that change is 0.44"
        in (error)
    )
    assert counts(result) == (1800, 100, 1700, 300)  # all of them have other ids
    tenants.of_other().assert_equal("public.customers")


@pytest.mark.parametrize("options", [{}, {"deletes": "soft"}, {"deletes": "ignore"}, {"mode": "full_sync"}])
def test_a_dump_that_was_restored_goes_on_by_itself(tenants: Tenants, options: dict[str, Any]) -> None:
    """All rows have other ids, and a column that came along is new in all of them."""
    table = {**TABLE, **options}
    fill(tenants.replica.source, "a")
    tenants.replica.sync(table)
    tenants.replica.source.execute("DELETE FROM customers WHERE id <= 100")
    tenants.replica.sync(table)
    fill(tenants.other, "a", first=101)
    tenants.other.execute(
        "UPDATE customers SET name = 'changed' WHERE id > 1400; ALTER TABLE customers ADD since date DEFAULT now()"
    )

    result = tenants.of_other().sync(table)

    assert result.mode == "full_sync" and "another database of the cluster" in (result.reason or "")
    assert tenants.replica.target.fetch("SELECT count(*) FROM customers WHERE name = 'changed'") == [(100,)]


def test_rows_kept_of_long_ago_are_no_change_where_deletes_are_ignored(tenants: Tenants) -> None:
    table = {**TABLE, "deletes": "ignore"}
    fill(tenants.replica.source, "a", last=5000)
    tenants.replica.sync(table)
    fill(tenants.other, "a", first=4001, last=5000)

    tenants.of_other().sync(table)

    assert tenants.replica.target.fetch("SELECT count(*) FROM customers") == [(5000,)]


@pytest.mark.parametrize("deletes", ["hard", "soft", "ignore"])
def test_an_empty_database_is_not_taken_for_the_same(tenants: Tenants, deletes: str) -> None:
    """With deletes that are ignored nothing would change now, but its later rows would pass for the copy's."""
    table = {**TABLE, "deletes": deletes}
    fill(tenants.replica.source, "a")
    tenants.other.execute(CREATE)
    tenants.replica.sync(table)

    assert "--allow-mass-change" in refused(tenants.of_other().try_sync(table, allow_mass_delete=True))


def test_small_tables_are_not_asked_about(tenants: Tenants) -> None:
    fill(tenants.replica.source, "a", last=999)
    fill(tenants.other, "b", last=999)
    tenants.replica.sync(TABLE)

    assert counts(tenants.of_other().sync(TABLE)) == (999, 0, 999, 0)


def test_marked_rows_are_not_of_the_share(tenants: Tenants) -> None:
    """1500 rows, of which 501 are marked: 999 is a small table."""
    table = {**TABLE, "deletes": "soft"}
    fill(tenants.replica.source, "a")
    tenants.replica.sync(table)
    tenants.replica.source.execute("DELETE FROM customers WHERE id > 999")
    tenants.replica.sync(table)
    fill(tenants.other, "b", last=999)

    assert counts(tenants.of_other().sync(table)) == (999, 0, 999, 0)


@pytest.mark.parametrize("same", [True, False])
def test_rows_without_a_key_are_compared_as_often_as_they_are_there(tenants: Tenants, same: bool) -> None:
    table = {**TABLE, "mode": "full_sync"}
    create = CREATE.replace(" PRIMARY KEY", "")
    fill(tenants.replica.source, "a", create=create)
    tenants.replica.source.execute("INSERT INTO customers SELECT 0, 'twin', NULL FROM generate_series(1, 500)")
    fill(tenants.other, "a" if same else "b", create=create)
    tenants.other.execute("INSERT INTO customers SELECT 0, 'twin', NULL FROM generate_series(1, 100)")
    tenants.replica.sync(table)

    result = tenants.of_other().try_sync(table)

    # 1500 of one kind, and 100 of the 500 that are alike, are there again.
    if same:
        assert result.error is None
        assert tenants.replica.target.fetch("SELECT count(*) FROM customers") == [(1600,)]
    else:
        assert "would change or delete 1900 of the target's 2000 rows" in refused(result)


def test_another_key_at_the_same_time_does_not_hide_it(tenants: Tenants) -> None:
    fill(tenants.replica.source, "a")
    fill(tenants.other, "b", create="CREATE TABLE customers (id int, name text PRIMARY KEY, mail text)")
    tenants.replica.sync(TABLE)

    for deletes in ("hard", "ignore"):
        assert "--allow-mass-change" in refused(tenants.of_other().try_sync({**TABLE, "deletes": deletes}))


def test_a_table_of_other_columns_is_another_one(tenants: Tenants) -> None:
    fill(tenants.replica.source, "a")
    tenants.other.execute("CREATE TABLE customers (id int PRIMARY KEY, price int)")
    tenants.other.execute("INSERT INTO customers SELECT i, i FROM generate_series(1, 1500) i")
    tenants.replica.sync(TABLE)
    before = tenants.left()

    assert "would change or delete 1500 of" in refused(tenants.of_other().try_sync(TABLE))
    assert tenants.left() == before


def test_a_resync_does_not_allow_it(tenants: Tenants) -> None:
    fill(tenants.replica.source, "a")
    fill(tenants.other, "b")
    tenants.replica.sync(TABLE)
    resync_tables(tenants.replica.config(TABLE))

    assert "--allow-mass-change" in refused(tenants.of_other().try_sync(TABLE))
    assert counts(tenants.replica.sync(TABLE)) == (1500, 0, 0, 0)


def test_another_table_configured_for_the_target_is_another_source(tenants: Tenants) -> None:
    """Tenants may be schemas, too. A table that is made anew under its name is the same source."""
    source = tenants.replica.source
    fill(source, "a")
    source.execute("CREATE SCHEMA b; CREATE TABLE b.customers (LIKE public.customers INCLUDING ALL)")
    source.execute(FILL.replace("INTO customers", "INTO b.customers").format("b", 1, 1500))
    tenants.replica.sync(TABLE)

    error = refused(tenants.replica.try_sync({"source": "b.customers", "target": "public.customers"}))

    assert "the copy was made from public.customers in" in error and "from b.customers in" in error
    source.execute("DROP TABLE customers")
    fill(source, "c")
    assert counts(tenants.replica.sync(TABLE)) == (1500, 0, 1500, 0)


TYPED = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (x int, y text);
CREATE TABLE customers (id int PRIMARY KEY, mood mood, pair pair);
CREATE TABLE friends (id int PRIMARY KEY, mood mood, pair pair);
INSERT INTO customers SELECT i, 'sad', ROW(i, '{0}' || i)::pair FROM generate_series(1, 1500) i;
INSERT INTO friends VALUES (1, 'sad', ROW(1, 'f')::pair);
"""
TEXTS = "SELECT id, mood::text, pair::text FROM customers ORDER BY id"


@pytest.fixture
def typed(tenants: Tenants) -> Tenants:
    """Of one type each; `friends` of the other one are in the same target, so its types are known there."""
    tenants.replica.source.execute(TYPED.format("a"))
    tenants.other.execute(TYPED.format("b"))
    tenants.replica.sync(TABLE)
    tenants.of_other().sync("public.friends")
    return tenants


@pytest.mark.parametrize(
    "alteration",
    [
        "TYPE pair DROP ATTRIBUTE y",
        "TYPE pair RENAME ATTRIBUTE y TO z",
        "TYPE pair ADD ATTRIBUTE z int",
        "TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "TYPE mood ADD VALUE 'blue'",
    ],
)
def test_a_source_that_is_refused_has_changed_no_value_by_its_types(typed: Tenants, alteration: str) -> None:
    other, target = typed.of_other(), typed.replica.target
    typed.other.execute(f"ALTER {alteration}")
    before = target.fetch(TEXTS)

    error = refused(other.try_sync(TABLE))

    assert "othing was changed" not in error
    assert before[0] == (1, "sad", "(1,a1)") and target.fetch(TEXTS) == before
    assert typed.replica.sync(TABLE).rows_extracted == 0
    typed.replica.assert_equal("public.customers")
    assert typed.replica.verify(TABLE).status == "match"
    # Where it is meant so, the rows are replaced.
    if "pair" in alteration:
        assert "If the source's address is wrong, mend it." in error
        (statement,) = re.findall("run (ALTER TYPE .*) in the target", error)
        target.execute(statement)
    else:
        assert "No row was changed" in error
    assert "--allow-mass-change" in refused(other.try_sync(TABLE))
    other.sync(TABLE, allow_mass_change=True)
    other.assert_equal("public.customers")
    other.sync("public.friends")
    other.assert_equal("public.friends")


def test_what_a_first_wrong_address_adds_to_types_is_used_by_no_row(tenants: Tenants) -> None:
    """A label cannot be used in the transaction that adds it, so it is there before rows can be compared."""
    source, target = tenants.replica.source, tenants.replica.target
    source.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE customers (id int PRIMARY KEY, mood mood)")
    tenants.other.execute(
        "CREATE TYPE mood AS ENUM ('glad', 'ok', 'sad'); CREATE TYPE extra AS (x int);"
        "CREATE TABLE customers (id int PRIMARY KEY, mood mood, extra extra)"
    )
    source.execute("INSERT INTO customers SELECT i, 'sad' FROM generate_series(1, 1500) i")
    tenants.other.execute("INSERT INTO customers SELECT i, 'glad' FROM generate_series(1, 1500) i")
    tenants.replica.sync(TABLE)
    before = tenants.left()

    error = refused(tenants.of_other().try_sync(TABLE))

    assert "No row was changed" in error
    assert tenants.left() == before
    assert target.fetch("SELECT enumlabel::text FROM pg_enum ORDER BY enumsortorder") == [("glad",), ("sad",), ("ok",)]
    source.execute("ALTER TYPE mood RENAME VALUE 'ok' TO 'glad'; INSERT INTO customers VALUES (0, 'glad')")
    assert counts(tenants.replica.sync(TABLE))[1] == 1
    tenants.replica.assert_equal("public.customers")


def test_a_restored_dump_with_own_types_goes_on_by_itself_though_a_label_was_renamed(typed: Tenants) -> None:
    """Its types are known by another table that was synced from it. The label that some rows have is a new one."""
    typed.other.execute(
        "UPDATE customers SET pair.y = 'a' || id; UPDATE customers SET mood = 'ok' WHERE id > 700;"
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"
    )
    typed.replica.source.execute("UPDATE customers SET mood = 'ok' WHERE id > 700")
    typed.replica.sync(TABLE)

    typed.of_other().sync(TABLE)

    typed.of_other().assert_equal("public.customers")
    assert typed.replica.target.fetch("SELECT count(*) FROM customers WHERE mood = 'blue'") == [(700,)]


def test_the_plan_shows_the_danger(tenants: Tenants) -> None:
    fill(tenants.replica.source, "a")
    fill(tenants.other, "b")
    tenants.replica.sync(TABLE)

    same, another = tenants.replica.plan(TABLE).snapshot, tenants.of_other().plan(TABLE).snapshot

    assert same and another
    assert same.plan.another_source is None
    assert (another.plan.another_source or "").startswith("the copy was made from public.customers in the database")


def test_another_cluster_is_asked_about_and_its_error_is_terminal(tenants: Tenants, server: Cluster) -> None:
    fill(tenants.replica.source, "a")
    tenants.replica.sync(TABLE)
    there = create_database(server, "shop")
    fill(there, "b")
    replica = replace(tenants.replica, source=there)

    with replica.stations(TABLE) as stations, pytest.raises(MassChange) as caught:
        stations.merge(stations.up_to_stage())

    for database in (tenants.replica.source, there):
        ((identifier,),) = database.fetch("SELECT system_identifier::text FROM pg_control_system()")
        assert identifier in str(caught.value)
    there.execute("UPDATE customers SET name = 'a' || id, mail = 'a@' || id WHERE id > 100")
    assert replica.sync(TABLE).rows_extracted == 1500
    there.disconnect()


def test_a_promoted_standby_with_few_changes_goes_on_by_itself(
    server: Cluster, workshop: Workshop, servers: list[Cluster], target_db: Database, tmp_path: Path, blocks: str
) -> None:
    shop = create_database(server, "shop")
    fill(shop, "a")
    replica = Replica(shop, target_db, tmp_path / "spool", {"workers": 2})
    servers.append(standby_of(server, workshop, f"{server.name}-standby"))
    await_replay(servers[-1], server)
    replica.sync(TABLE)
    shop.disconnect()
    server.stop(immediate=True)
    promoted = Database(servers[-1], "shop")
    assert promoted.fetch("SELECT pg_promote(wait => true)") == [(True,)]
    promoted.execute("UPDATE customers SET name = 'later' WHERE id <= 700")
    promoted.execute("ALTER TABLE customers RENAME mail TO address")

    result = replace(replica, source=promoted).sync(TABLE)

    assert "timeline 2, not 1" in (result.reason or "")
    assert counts(result) == (1500, 0, 700, 0)
    promoted.execute("UPDATE customers SET name = 'later' WHERE id <= 1400")
    assert counts(replace(replica, source=promoted).sync(TABLE)) == (1400, 0, 1400, 0)
    promoted.disconnect()
