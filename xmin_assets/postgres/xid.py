"""Transaction ids that never wrap.

A tuple keeps 32 bits of its xmin, so a row's xid64 is found from its age. ``age(xid)`` counts, modulo 2^32, from the
next xid to be assigned, which PostgreSQL fixes at the first call in a transaction (`xid_age` and
`GetStableLatestTransactionId` in its source). An age in [0, 2^32) therefore belongs to one xid64, given the xid64 of
any one xid of the same transaction. age() of the permanent ids 1 (bootstrap) and 2 (frozen by servers older than 9.4)
is always `PERMANENT_AGE`; they are no moment in time and keep their own value.
"""

from __future__ import annotations

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.rows import fetch_value

CYCLE = 2**32
"""After so many transactions the 32 bits of an xid come round."""

FIRST_NORMAL = 3
"""No transaction has a lower id (FirstNormalTransactionId in src/include/access/transam.h)."""

PERMANENT_AGE = 2**31 - 1
"""What age() says of a permanent id."""

AGE = sql.SQL("pg_catalog.age(xmin)")
"""The age of a row version as age() says it: below 0 from 2^31 transactions."""

ROW_AGE = sql.SQL("(pg_catalog.age(xmin)::int8 & 4294967295)")
"""The age of a row version in transactions, in [0, 2^32)."""


def read_next_xid(cursor: ext.cursor, horizon: int) -> int:
    """Return the xid64 from which age() counts in the cursor's transaction.

    Args:
        cursor: in the transaction whose ages will be read.
        horizon: an xid64 less than 2^32 transactions old.
    """
    cursor.execute("SELECT pg_catalog.age(%s::xid)::int8 & 4294967295 AS age", (str(horizon % CYCLE),))
    return horizon + fetch_value(cursor, int)


def row_xid64(next_xid: int) -> sql.Composable:
    """Build the xid64 of a row version.

    Args:
        next_xid: what `read_next_xid` gave in this transaction.
    """
    return sql.SQL(
        "(CASE WHEN xmin = '2'::xid THEN 2 WHEN xmin = '1'::xid THEN 1 ELSE {next_xid} - {age} END)::int8"
    ).format(next_xid=sql.Literal(next_xid), age=ROW_AGE)


def at_or_above(watermark: int, next_xid: int) -> sql.Composable:
    """Build the condition that a row version's xid64 is at or above the watermark.

    A version more than 2^32 transactions old appears younger by whole cycles and may fulfil it, too: reading it
    again changes nothing. With a watermark of such an age every row fulfils it.
    """
    limit = next_xid - watermark
    if limit >= 0 and next_xid < PERMANENT_AGE:  # and no row is older than the first transaction
        return sql.SQL("{age} <= {limit}").format(age=AGE, limit=sql.Literal(limit))
    if 0 <= limit < PERMANENT_AGE:
        # Of nearly every row the first comparison is all that is evaluated.
        return sql.SQL("({age} <= {limit} AND {age} >= 0)").format(age=AGE, limit=sql.Literal(limit))
    return sql.SQL("{age} <= {limit}").format(age=ROW_AGE, limit=sql.Literal(limit))


def wrapped(watermark: int, horizon: int) -> bool:
    """Return whether the watermark is so old that row ages cannot tell which rows changed since."""
    return horizon - watermark >= CYCLE
