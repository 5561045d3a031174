"""A table and its copy, on the session's servers."""

from __future__ import annotations

import pytest

from xmin_assets_tests.integration.faults.items import Items
from xmin_assets_tests.replica import Replica


@pytest.fixture
def fresh(replica: Replica) -> Items:
    """A table that was never synced."""
    return Items.create(replica)


@pytest.fixture
def items(replica: Replica) -> Items:
    """A table that was synced, and changed after that."""
    return Items.synced(replica)
