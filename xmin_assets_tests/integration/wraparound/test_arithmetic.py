"""The SQL that turns ages into xid64s, on a server past its first epoch, for every age that counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from xmin_assets.demo.cluster import Cluster
from xmin_assets.postgres import xid
from xmin_assets.postgres.server import horizon
from xmin_assets_tests.servers import CYCLE, next_xid, travel

AGES = [1, 2, 2**31 - 1, 2**31, 2**31 + 1, CYCLE - 2, CYCLE - 1]


@pytest.fixture(scope="module", params=[3, 1000, 2**31, 2**31 + 5], ids=lambda on: f"epoch + {on}")
def cursor(traveller: Cluster, request: pytest.FixtureRequest) -> Iterator[Cursor]:
    """In a transaction on a server that is so far past the beginning of an epoch."""
    epoch = next_xid(traveller) // CYCLE + 1
    travel(traveller, epoch * CYCLE + request.param)
    with closing(traveller.connect()) as connected, connected.cursor() as opened:
        opened.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield opened


@pytest.fixture(scope="module")
def now(cursor: Cursor) -> int:
    return xid.read_next_xid(cursor, horizon(cursor))


def evaluate(cursor: Cursor, expression: sql.Composable, xid64: int) -> object:
    """An expression over a row whose raw xmin is that of an xid64."""
    row = sql.SQL("SELECT {} FROM (SELECT {}::xid AS xmin) AS row").format(expression, sql.Literal(str(xid64 % CYCLE)))
    cursor.execute(row)
    ((value,),) = cursor.fetchall()
    return value


def normal(xid64: int) -> bool:
    return xid64 % CYCLE > 2


def test_present_is_the_next_transaction(cursor: Cursor, now: int, traveller: Cluster) -> None:
    assert now == next_xid(traveller)


def test_present_is_found_from_any_horizon_less_than_a_cycle_old(cursor: Cursor, now: int) -> None:
    old = [now - age for age in (0, *AGES) if normal(now - age)]

    assert [xid.read_next_xid(cursor, reference) for reference in old] == [now] * len(old)


def test_row_of_any_age_less_than_a_cycle_has_its_xid64(cursor: Cursor, now: int) -> None:
    rows = [now - age for age in AGES if normal(now - age)]

    assert [evaluate(cursor, xid.row_xid64(now), row) for row in rows] == rows


@pytest.mark.parametrize("permanent", [1, 2])
def test_permanent_ids_keep_their_value(cursor: Cursor, now: int, permanent: int) -> None:
    assert evaluate(cursor, xid.row_xid64(now), permanent) == permanent


@pytest.mark.parametrize("since", AGES)
def test_rows_at_and_above_the_watermark_are_changed_and_rows_below_are_not(
    cursor: Cursor, now: int, since: int
) -> None:
    watermark = now - since
    rows = [now - age for age in sorted({*AGES, max(1, since - 1), since, min(since + 1, CYCLE - 1)})]

    changed = {row for row in rows if normal(row) and evaluate(cursor, xid.at_or_above(watermark, now), row)}

    assert changed == {row for row in rows if normal(row) and row >= watermark}
