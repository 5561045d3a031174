"""A table and its copy, on the session's servers."""

from __future__ import annotations

import pytest

from xmin_assets_tests.integration.faults.watched_table import WatchedTable
from xmin_assets_tests.replica import Replica


@pytest.fixture
def fresh(replica: Replica) -> WatchedTable:
    """A table that was never synced."""
    return WatchedTable.create(replica)


@pytest.fixture
def watched(replica: Replica) -> WatchedTable:
    """A table that was synced, and changed after that."""
    return WatchedTable.synced(replica)
