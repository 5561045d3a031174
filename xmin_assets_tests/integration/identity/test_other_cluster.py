"""Another cluster behind the same address, with a database and a table of the same names, and of the same oids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets_tests.clusters import SETTINGS, Database, Workshop
from xmin_assets_tests.integration.identity.conftest import SHOP
from xmin_assets_tests.integration.ledger import TABLE, Ledger, counts
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import burn_to, create_database, remove

OIDS = "SELECT 'items'::regclass::oid::int8, oid::int8 FROM pg_database WHERE datname = current_database()"


@dataclass
class Address:
    """A port and a password at which one of two servers answers, each with a database `shop`."""

    servers: tuple[Cluster, Cluster]
    port: int
    answering: int = 0

    def answer(self, number: int) -> Database:
        """Let this server answer."""
        if self.answering != number:
            self.servers[self.answering].stop()
            self.answering = number
            assert self.servers[number].start(self.port) == self.port
        return Database(self.servers[number], SHOP)


@pytest.fixture(scope="module")
def address(workshop: Workshop, summarizing: dict[str, str]) -> Iterator[Address]:
    one = workshop.cluster("one")
    two = Cluster(workshop.folder / "two", one.programs, one.password)
    for server in (one, two):
        server.init({**SETTINGS, "autovacuum": "off", **summarizing}, sync=False)
    found = Address((one, two), one.start())
    for number in (0, 1):
        found.answer(number)
        create_database(found.servers[number], SHOP)
    yield found
    remove([one, two])


@pytest.fixture
def read_from(address: Address, target_db: Database, tmp_path: Path) -> Iterator[Callable[[int], Replica]]:
    """The copy, fed by the first or the second server; the tables are none at first."""
    opened: list[Database] = []

    def read(number: int) -> Replica:
        for database in opened:
            database.disconnect()
        opened.append(address.answer(number))
        return Replica(opened[-1], target_db, tmp_path / "spool", {"workers": 2})

    yield read
    for number in (0, 1):
        read(number).source.execute("DROP TABLE IF EXISTS ledger, items")
        opened[-1].disconnect()


def system_identifier(source: Database) -> str:
    ((identifier,),) = source.fetch("SELECT system_identifier::text FROM pg_control_system()")
    return str(identifier)


def burn_oids(source: Database, oid: int) -> None:
    """Make this the oid of the next object."""
    source.execute("DO $$ BEGIN WHILE lo_create(0) < %s LOOP NULL; END LOOP; END $$", (oid - 1,))


def test_another_cluster_is_read_in_full_and_nothing_of_the_first_one_is_left(
    read_from: Callable[[int], Replica], options: dict[str, Any]
) -> None:
    one = Ledger.create(read_from(0), options)
    one.insert(1, 20, "of one")
    one.insert(101, 110, "only in one")
    one.sync()
    identity_of_one = system_identifier(one.source)
    two = Ledger.create(read_from(1), options)
    two.insert(1, 30, "of two")

    switched = two.sync()
    two.change(1, 1)
    later = two.sync()

    identity_of_two = system_identifier(two.source)
    assert switched.mode == "full_sync"
    assert switched.reason == f"another cluster: its system identifier is {identity_of_two}, not {identity_of_one}"
    assert counts(switched) == (30, 10, 20, 10)
    assert (later.mode, counts(later)) == ("xmin_incremental", (1, 0, 1, 0))


def test_rows_of_equal_xids_are_not_taken_for_the_same(read_from: Callable[[int], Replica]) -> None:
    one = Ledger.create(read_from(0))
    burn_to(one.source.cluster, 5000)
    one.insert(1, 5, "of one")
    one.sync()
    two = Ledger.create(read_from(1))
    burn_to(two.source.cluster, 5000)
    two.insert(1, 5, "of two")

    result = two.sync()

    assert two.replica.source_xmins(TABLE) == [5000] * 5
    assert counts(result) == (5, 0, 5, 0)


def test_row_kept_from_the_first_cluster_is_replaced_when_the_second_one_gets_its_key(
    read_from: Callable[[int], Replica],
) -> None:
    table = {"source": TABLE, "deletes": "ignore"}
    two = Ledger.create(read_from(1))
    two.insert(1, 2, "of two")
    one = Ledger.create(read_from(0))
    burn_to(one.source.cluster, 6000)
    one.insert(1, 3, "of one")
    one.replica.sync(table)
    two = Ledger(read_from(1))
    switched = two.replica.sync(table)
    kept = two.replica.target.fetch("SELECT note FROM ledger WHERE id = 3")
    burn_to(two.source.cluster, 6000)
    two.insert(3, 3, "of two")

    result = two.replica.sync(table)

    assert (switched.mode, counts(switched)) == ("full_sync", (2, 0, 2, 0))
    assert kept == [("of one",)]
    assert (result.mode, counts(result)) == ("xmin_incremental", (1, 0, 1, 0))
    two.assert_true()


def test_columns_go_by_name_where_equal_oids_are_of_another_cluster(read_from: Callable[[int], Replica]) -> None:
    items = {"source": "public.items"}
    one = read_from(0)
    burn_oids(one.source, 20_000)
    one.source.execute("CREATE TABLE items (id int PRIMARY KEY, price numeric, name text, made date)")
    one.source.execute("INSERT INTO items VALUES (1, 1.50, 'chair', '2024-02-29')")
    oids = one.source.fetch(OIDS)
    one.sync(items)
    two = read_from(1)
    burn_oids(two.source, 20_000)
    two.source.execute("CREATE TABLE items (id int PRIMARY KEY, made date, price numeric, name text)")
    two.source.execute("INSERT INTO items VALUES (1, '2024-03-01', 2.50, 'table')")
    assert two.source.fetch(OIDS) == oids

    result = two.sync(items)

    assert (result.mode, counts(result)) == ("full_sync", (1, 0, 1, 0))
    columns = two.columns(two.target, QualifiedName("public", "items"))
    assert columns == ["id", "price", "name", "made", "source_xmin"]
    two.assert_equal("public.items")
