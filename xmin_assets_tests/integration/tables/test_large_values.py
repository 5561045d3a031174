"""Values that are too large for the server to write them as text."""

from __future__ import annotations

import pytest

from xmin_assets_tests.replica import Replica

LARGE = 550_000_000
"""Bytes whose text has more than 1 GB."""


@pytest.fixture
def large(replica: Replica) -> Replica:
    """A row among others that cannot be sent."""
    replica.source.execute("CREATE TABLE files (id int PRIMARY KEY, name text, body bytea)")
    replica.source.execute("INSERT INTO files SELECT i, 'file ' || i, 'small' FROM generate_series(1, 300) i")
    replica.source.execute(f"UPDATE files SET body = convert_to(repeat('x', {LARGE}), 'UTF8') WHERE id = 170")
    return replica


def test_the_row_and_the_column_are_named_with_the_ways_out(large: Replica) -> None:
    error = str(large.try_sync("public.files").error)

    assert "a row is too large to be sent" in error and "a bytea of 500 MB" in error
    assert "It is in column body, in the row with (id)=(170)." in error
    assert "exclude_columns" in error
    large.sync({"source": "public.files", "exclude_columns": "body"})
    assert large.target.fetch("SELECT count(*) FROM files") == [(300,)]
    large.sync({"source": "public.files", "target": "public.others", "where": "id <> 170"})
    assert large.target.fetch("SELECT count(*) FROM others") == [(299,)]
