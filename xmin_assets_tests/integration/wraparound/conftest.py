"""A server that is moved through its transaction ids, and a ledger on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.ledger import Ledger
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import TRAVELLER, remove


@pytest.fixture(scope="package")
def traveller(workshop: Workshop) -> Iterator[Cluster]:
    """A server that goes forward only: a test asks for the next boundary, whichever that is."""
    server = workshop.start("traveller", **TRAVELLER)
    yield server
    remove([server])


@pytest.fixture
def ledger(traveller: Cluster, target_db: Database, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger, never synced."""
    database = Database.create(traveller)
    yield Ledger.create(Replica(database, target_db, tmp_path / "spool", {"workers": 2}))
    database.drop()
