"""A copy of 3000 rows in which faults are planted, and what a comparison of it says."""

from __future__ import annotations

import pytest

from xmin_assets.replication.verification.verify import TableVerification
from xmin_assets_tests.replica import Replica

ROWS = 3000
ITEMS = f"""
CREATE TABLE items (id int PRIMARY KEY, name text, price numeric(10, 2), data json);
INSERT INTO items SELECT i, 'item ' || i, i / 4.0, '{{"n": 1}}' FROM generate_series(1, {ROWS}) i;
"""


def counts(found: TableVerification) -> tuple[int, int, int, int]:
    """Missing, extra, different, pending."""
    assert found.status == ("mismatch" if found.missing or found.extra or found.different else "match"), found.error
    return found.missing, found.extra, found.different, found.pending


def ids(found: TableVerification) -> dict[str, list[int]]:
    """The ids that are named as examples, kinds without any left out."""
    return {str(kind): sorted(int(key["id"]) for key in keys) for kind, keys in found.examples.items() if keys}


@pytest.fixture
def items(replica: Replica) -> Replica:
    """3000 rows, synced."""
    replica.source.execute(ITEMS)
    replica.sync("public.items")
    return replica
