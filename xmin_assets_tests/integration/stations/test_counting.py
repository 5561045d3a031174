"""The scan that counts: which ranges have changed rows, and what is known of the rows' xid64."""

from __future__ import annotations

from psycopg2 import sql

from xmin_assets.postgres import xid
from xmin_assets.replication.scan import Count, Query, spans
from xmin_assets.replication.snapshot import locked_source
from xmin_assets_tests.replica import Replica

TABLE = """
CREATE TABLE wide (id int PRIMARY KEY, pad text);
ALTER TABLE wide ALTER pad SET STORAGE PLAIN;
INSERT INTO wide SELECT i, repeat('x', 1000) FROM generate_series(1, 3000) i;
"""


def scan(replica: Replica, where: str | None = None) -> tuple[list[Count], list[tuple[int, int]]]:
    """What counting says of each range, and the xid64s of all rows to be copied: by what it says, and in general."""
    with replica.stations({"source": "public.wide", "where": where} if where else "public.wide") as stations:
        plan = stations.snapshot().plan
        with (
            stations.source.connection() as connection,
            locked_source(stations.source, connection, stations.table, "r", "counting") as (cursor, facts, storage),
        ):
            now = xid.present(cursor, facts.horizon)
            query = Query(stations.table.source_name, plan, facts.selection, now)
            counts, rows = [], []
            for span in spans(storage, 2):
                cursor.execute(query.count(span))
                (row,) = cursor.fetchall()
                counts.append(query.counted(span, row))
                told = query.rows(span, counts[-1].bounds)
                general = sql.SQL("SELECT id, {} AS general FROM public.wide").format(xid.row_xid64(now))
                both = sql.SQL("SELECT * FROM ({}) AS told(id, pad, xid64) JOIN ({}) AS rows USING (id)")
                cursor.execute(both.format(told, general))
                rows += [(row[-2], row[-1]) for row in cursor.fetchall()]
        return counts, rows


def test_only_the_range_that_has_changed_rows_is_to_be_copied(replica: Replica) -> None:
    replica.source.execute(TABLE)
    replica.sync("public.wide")
    replica.source.execute("INSERT INTO wide VALUES (0, repeat('x', 1000))")

    counts, _ = scan(replica)

    assert len(counts) > 3
    assert [count.changed for count in counts] == [0] * (len(counts) - 1) + [None]
    assert sum(count.rows for count in counts) == 3001


def test_rows_outside_the_where_clause_are_not_counted(replica: Replica) -> None:
    replica.source.execute(TABLE)
    replica.sync({"source": "public.wide", "where": "id % 3 = 0"})
    replica.source.execute("DELETE FROM wide WHERE id = 9; UPDATE wide SET pad = 'y' WHERE id = 12")

    counts, rows = scan(replica, "id % 3 = 0")

    assert sum(count.rows for count in counts) == 999
    assert len(rows) == 1


def test_rows_of_one_transaction_have_its_xid64_without_being_asked(replica: Replica) -> None:
    replica.source.execute(TABLE)

    counts, rows = scan(replica)

    assert all(count.bounds and count.bounds[0] == count.bounds[1] == count.max_xmin for count in counts)
    assert len(rows) == 3000
    assert all(told == general for told, general in rows)


def test_rows_of_several_transactions_have_each_its_own(replica: Replica) -> None:
    replica.source.execute(TABLE)
    for _ in range(3):
        replica.source.execute("INSERT INTO wide SELECT max(id) + 1, 'later' FROM wide")

    counts, rows = scan(replica)

    (last,) = (count for count in counts if count.bounds and count.bounds[0] != count.bounds[1])
    assert last.bounds == (min(general for _, general in rows), max(general for _, general in rows))
    assert all(told == general for told, general in rows)
    assert len({general for _, general in rows}) == 4
