"""A server that is moved through its transaction ids, and a ledger on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.ledger import Ledger
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import TRAVELLER, remove


@pytest.fixture(scope="package")
def traveller(workshop: Workshop, summarizing: dict[str, str]) -> Iterator[Cluster]:
    """A server that goes forward only: a test asks for the next boundary, whichever that is."""
    server = workshop.start("traveller", **TRAVELLER, **summarizing)
    yield server
    remove([server])


@pytest.fixture
def ledger(traveller: Cluster, target_db: Database, tmp_path: Path, options: dict[str, Any]) -> Iterator[Ledger]:
    """An empty ledger, never synced."""
    database = Database.create(traveller)
    yield Ledger.create(Replica(database, target_db, tmp_path / "spool", {"workers": 2}), options)
    # One that a test which failed has left would keep the database, and rows from being frozen.
    for (gid,) in database.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        database.execute("ROLLBACK PREPARED %s", (gid,))
    database.drop()
