"""Ledgers on servers that a test may stop, copy and crash."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import SETTINGS, Database, Workshop
from xmin_assets_tests.integration.conftest import EVERY
from xmin_assets_tests.integration.ledger import Ledger
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import clone, create_database, remove

SHOP = "shop"
"""The database's name on every server: addresses tell nothing apart."""


@pytest.fixture
def servers() -> Iterator[list[Cluster]]:
    """Servers of one test: what is put here is removed after it."""
    found: list[Cluster] = []
    yield found
    remove(found)


@pytest.fixture(scope="package")
def blank(workshop: Workshop, summarizing: dict[str, str]) -> Iterator[Cluster]:
    """A server of which others are copied, because initdb takes seconds. It is never started."""
    made = workshop.cluster("blank")
    made.init({**SETTINGS, "autovacuum": "off", **summarizing}, sync=False)
    yield made
    remove([made])


@pytest.fixture
def server(blank: Cluster, workshop: Workshop, servers: list[Cluster]) -> Cluster:
    """A server of the test's own."""
    started = clone(blank, workshop, f"own-{secrets.token_hex(4)}")
    servers.append(started)
    started.start()
    return started


@pytest.fixture
def source_db(blocks: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    server = request.getfixturevalue("source_server" if blocks == EVERY else "summarizing_server")
    database = Database.create(server)
    yield database
    database.drop()


@pytest.fixture
def make_ledger(target_db: Database, tmp_path: Path, options: dict[str, Any]) -> Callable[[Cluster], Ledger]:
    """Makes an empty ledger in the database `shop` of a server."""

    def make(server: Cluster) -> Ledger:
        database = create_database(server, SHOP)
        return Ledger.create(Replica(database, target_db, tmp_path / "spool", {"workers": 2}), options)

    return make


@pytest.fixture
def ledger(server: Cluster, make_ledger: Callable[[Cluster], Ledger]) -> Ledger:
    """Twenty rows on the test's own server, not synced."""
    made = make_ledger(server)
    made.insert(1, 20)
    return made
