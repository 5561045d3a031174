"""Partitioned tables of several levels, and partitions that the role may not read under their own names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica

TREE = """
CREATE TABLE events (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE y2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (id);
CREATE TABLE y2025_odd PARTITION OF y2025 FOR VALUES IN (1, 3, 5, 7, 9);
CREATE TABLE y2025_even PARTITION OF y2025 FOR VALUES IN (2, 4, 6, 8, 10);
CREATE TABLE y2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE rest PARTITION OF events DEFAULT;
INSERT INTO events SELECT i, date '2025-06-01' + j * 400, 'n' FROM generate_series(1, 10) i, generate_series(0, 2) j;
"""

OLD = """
CREATE TABLE {0} (note text, id int NOT NULL, gone int, day date NOT NULL);
ALTER TABLE {0} DROP COLUMN gone;
INSERT INTO {0} SELECT 'old', i, date '2024-06-01' FROM generate_series(1, 5) i;
"""


@pytest.fixture
def events(replica: Replica) -> Replica:
    replica.source.execute(TREE)
    return replica


def test_rows_of_every_level_come_and_move(events: Replica) -> None:
    assert counts(events.sync("public.events")) == (30, 30, 0, 0)
    events.source.execute("UPDATE events SET day = day + 250 WHERE id = 1 AND day < '2026-01-01'")
    events.source.execute("UPDATE events SET note = 'x' WHERE id = 2; DELETE FROM rest WHERE id = 3")

    result = events.sync("public.events")

    assert (result.mode, counts(result)) == ("xmin_incremental", (4, 1, 3, 2))
    events.assert_equal("public.events")


def test_a_partition_of_other_column_order_is_attached_and_detached(events: Replica) -> None:
    events.source.execute(OLD.format("old"))
    events.sync("public.events")
    events.source.execute("ALTER TABLE events ATTACH PARTITION old FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    attached = events.sync("public.events")
    events.assert_equal("public.events")
    events.source.execute("ALTER TABLE events DETACH PARTITION old; ALTER TABLE y2025 DETACH PARTITION y2025_odd")

    detached = events.sync("public.events")

    assert (attached.mode, counts(attached)) == ("xmin_incremental", (5, 5, 0, 0))
    assert (detached.mode, counts(detached)) == ("xmin_incremental", (0, 0, 0, 10))
    events.assert_equal("public.events")


def test_a_partitioned_table_without_partitions(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE events (id int PRIMARY KEY) PARTITION BY LIST (id)")
    replica.sync("public.events")
    replica.source.execute("CREATE TABLE one PARTITION OF events FOR VALUES IN (1); INSERT INTO events VALUES (1)")

    assert counts(replica.sync("public.events")) == (1, 1, 0, 0)


@pytest.fixture(params=["public", "hidden"])
def guest(events: Replica, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replica]:
    """The source is read by a role that may select from the parent alone; partitions may be where it may not look."""
    events.source.execute(
        "CREATE SCHEMA hidden; CREATE ROLE guest LOGIN PASSWORD 'secret'; GRANT SELECT ON events TO guest"
    )
    for partition in ("y2025", "y2025_odd", "y2026"):
        if request.param != "public":
            events.source.execute(f"ALTER TABLE {partition} SET SCHEMA {request.param}")
    monkeypatch.setenv("XMIN_SOURCE_URL", events.source.url_as("guest", "secret"))
    try:
        yield events
    finally:
        events.source.execute("DROP OWNED BY guest; DROP ROLE guest")


def test_partitions_without_rights_of_their_own_are_read_through_their_parent(guest: Replica) -> None:
    first = guest.sync("public.events")
    idle = guest.sync("public.events")
    guest.source.execute("UPDATE events SET note = 'x' WHERE id = 2; DELETE FROM events WHERE id = 3")
    guest.source.execute("INSERT INTO events VALUES (11, '2026-01-01', 'new')")

    result = guest.sync("public.events")

    assert (counts(first), counts(idle)) == ((30, 30, 0, 0), (0, 0, 0, 0))
    assert (result.mode, counts(result)) == ("xmin_incremental", (4, 1, 3, 3))
    guest.assert_equal("public.events")
    assert None not in guest.source_xmins("public.events")


def test_a_partition_without_rights_of_its_own_brings_its_older_rows(guest: Replica) -> None:
    guest.source.execute(OLD.format("old"))
    guest.sync("public.events")
    guest.source.execute("ALTER TABLE events ATTACH PARTITION old FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")

    result = guest.sync("public.events")

    assert (result.mode, counts(result)) == ("xmin_incremental", (5, 5, 0, 0))
    guest.assert_equal("public.events")


def test_a_cursor_and_full_sync_work_through_the_parent_too(guest: Replica) -> None:
    table = {"source": "public.events", "mode": "incremental_sync", "cursor": "day"}
    guest.sync(table)
    guest.source.execute("INSERT INTO events VALUES (11, '2029-01-01', 'new'); DELETE FROM events WHERE id = 3")
    result = guest.sync(table)

    full = guest.sync({"source": "public.events", "mode": "full_sync"})

    assert (result.rows_inserted, result.rows_deleted) == (1, 3)
    assert counts(full) == (28, 0, 0, 0)
    guest.assert_equal("public.events")
