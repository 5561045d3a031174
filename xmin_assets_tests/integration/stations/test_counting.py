"""The statements that read a range: which ones have changed rows, and which transactions wrote them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from psycopg2 import sql

from xmin_assets.postgres import xid
from xmin_assets.postgres.rows import fetch_one_as
from xmin_assets.replication.planning.observation import locked_source
from xmin_assets.replication.scan.queries import CommonXid, Query, RangeCount
from xmin_assets.replication.scan.ranges import Count, cut_into_ranges
from xmin_assets.replication.scan.session_flags import SessionFlags
from xmin_assets_tests.replica import Replica

TABLE = """
CREATE TABLE wide (id int PRIMARY KEY, pad text);
ALTER TABLE wide ALTER pad SET STORAGE PLAIN;
INSERT INTO wide SELECT i, repeat('x', 1000) FROM generate_series(1, 3000) i;
"""


@dataclass
class Found:
    """What the statements about a table's ranges say."""

    counts: list[Count] = field(default_factory=list)
    flagged: list[bool] = field(default_factory=list)
    """Whether rows of the range have another xid than the first one."""
    rows: list[tuple[int, int]] = field(default_factory=list)
    """The xid64s of the rows to be copied: as they are copied, and by the general expression."""


def scan(replica: Replica, where: str | None = None) -> Found:
    found = Found()
    with replica.stations({"source": "public.wide", "where": where} if where else "public.wide") as stations:
        plan = stations.snapshot().plan
        with (
            stations.source.connection() as connection,
            locked_source(stations.source, connection, stations.table, "r", "counting") as (cursor, facts, storage),
        ):
            now = xid.read_next_xid(cursor, facts.horizon)
            query = Query(stations.table.source_name, plan, facts.selection, now)
            for ctid_range in cut_into_ranges(storage, 2):
                cursor.execute(query.count(ctid_range))
                counted = fetch_one_as(cursor, RangeCount)
                changed = None if counted.has_changed else 0
                found.counts.append(Count(ctid_range, counted.rows, changed, int(counted.checksum)))
                cursor.execute(query.common_xid(ctid_range))
                common_xid = fetch_one_as(cursor, CommonXid) if query.copies_all(ctid_range) else None
                told = query.rows(ctid_range, common_xid)
                general = sql.SQL("SELECT id, {} AS general FROM public.wide").format(xid.row_xid64(now))
                both = sql.SQL("SELECT * FROM ({}) AS told(id, pad, xid64) JOIN ({}) AS rows USING (id)")
                cursor.execute(both.format(told, general))
                found.rows += [(row[-2], row[-1]) for row in cursor.fetchall()]
                cursor.execute(sql.SQL("SELECT {}").format(SessionFlags.is_flagged(ctid_range)))
                found.flagged += [bool(row[0]) for row in cursor.fetchall()]
    return found


def test_only_the_range_that_has_changed_rows_is_to_be_copied(replica: Replica) -> None:
    replica.source.execute(TABLE)
    replica.sync("public.wide")
    replica.source.execute("INSERT INTO wide VALUES (0, repeat('x', 1000))")

    counts = scan(replica).counts

    assert len(counts) > 3
    assert [count.changed for count in counts] == [0] * (len(counts) - 1) + [None]
    assert sum(count.rows for count in counts) == 3001


def test_rows_outside_the_where_clause_are_not_counted(replica: Replica) -> None:
    replica.source.execute(TABLE)
    replica.sync({"source": "public.wide", "where": "id % 3 = 0"})
    replica.source.execute("DELETE FROM wide WHERE id = 9; UPDATE wide SET pad = 'y' WHERE id = 12")

    found = scan(replica, "id % 3 = 0")

    assert sum(count.rows for count in found.counts) == 999
    assert len(found.rows) == 1


def test_rows_of_one_transaction_have_its_xid64_without_being_asked(replica: Replica) -> None:
    replica.source.execute(TABLE)

    found = scan(replica)

    assert found.flagged == [False] * len(found.counts)
    assert len(found.rows) == 3000
    assert all(told == general for told, general in found.rows)


def test_rows_of_several_transactions_have_each_its_own(replica: Replica) -> None:
    replica.source.execute(TABLE)
    for _ in range(3):
        replica.source.execute("INSERT INTO wide SELECT max(id) + 1, 'later' FROM wide")

    found = scan(replica)

    assert found.flagged == [False] * (len(found.counts) - 1) + [True]
    assert all(told == general for told, general in found.rows)
    assert len({general for _, general in found.rows}) == 4


@pytest.mark.parametrize("where", [None, "id > 10"])
def test_the_highest_xid_is_told_whether_one_transaction_wrote_all_rows_or_several(
    replica: Replica, where: str | None
) -> None:
    replica.source.execute(TABLE)
    table = {"source": "public.wide", "where": where} if where else "public.wide"
    assert replica.sync(table).max_xmin == max(replica.source_xmins("public.wide"))

    replica.source.execute("UPDATE wide SET pad = 'x' WHERE id = 1500")
    replica.target.execute("DROP TABLE wide")
    again = replica.sync(table)

    assert again.rows_extracted == (2990 if where else 3000)
    assert again.max_xmin == max(replica.source_xmins("public.wide"))

    for changed in (3000, 20, 1000):  # by one worker or the other, in this order
        replica.source.execute("UPDATE wide SET pad = 'y' WHERE id = %s", (changed,))
    later = replica.sync(table)

    assert later.rows_extracted == 3
    assert later.max_xmin == again.max_xmin + 3 == max(replica.source_xmins("public.wide"))
