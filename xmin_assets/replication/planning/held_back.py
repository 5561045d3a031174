"""Who holds the horizon back, and how far.

The horizon is the oldest transaction that is still open anywhere in the cluster. What was changed since it began is
read again by every sync until it ends: nothing is lost, but work is repeated. A session that only reads has no
transaction id and holds nothing back.
"""

from __future__ import annotations

import psycopg2.extensions as ext

from xmin_assets.postgres import xid
from xmin_assets.postgres.server import horizon
from xmin_assets.replication.manifests.plan import HeldBack, Holder

SHOWN = 5
"""Holders that are named."""

MANY = 1_000_000
"""Transactions from which the horizon is too far behind in any case."""

# backend_xid is shown to everybody, xact_start only to the session's own role and to pg_read_all_stats.
_HOLDERS = """
SELECT kind, name, xid, seconds
  FROM (SELECT 'session' AS kind, pid::text AS name, backend_xid::text::int8 AS xid, age(backend_xid) AS age,
               extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
          FROM pg_stat_activity
         WHERE backend_xid IS NOT NULL
         UNION ALL
        SELECT 'prepared', gid, transaction::text::int8, age(transaction),
               extract(epoch FROM clock_timestamp() - prepared)::float8
          FROM pg_prepared_xacts) holders
 ORDER BY age DESC
 LIMIT %s
"""


def observe_held_back(cursor: ext.cursor) -> HeldBack:
    """Return how far the horizon of the cursor's snapshot is behind, and the oldest open transactions now."""
    # Not the snapshot's xmax: that is only one past the last transaction that has ended.
    oldest = horizon(cursor)
    transactions = xid.read_next_xid(cursor, oldest) - oldest
    if not transactions:
        return HeldBack(0)
    cursor.execute(_HOLDERS, (SHOWN,))
    return HeldBack(transactions, tuple(Holder(*row) for row in cursor.fetchall()))


def warning(held_back: HeldBack, seconds: float) -> str | None:
    """Return what to tell people if a transaction has been open for too long, else None.

    Args:
        held_back: what was observed.
        seconds: age from which a transaction is too old. Where ages may not be seen, `MANY` transactions count as much.
    """
    if held_back.seconds < seconds and held_back.transactions < MANY:
        return None
    return (
        f"the watermark is {held_back_text(held_back)}; every sync reads again what was changed since. "
        "Commit, roll back or end what holds it."
    )


def held_back_text(held_back: HeldBack) -> str:
    """Return one line for people."""
    if not held_back.transactions:
        return "not held back"
    names = []
    for holder in held_back.by:
        who = f"pid {holder.name}" if holder.kind == "session" else f"prepared transaction {holder.name!r}"
        age = "" if holder.seconds is None else f" for {holder.seconds:.0f} s"
        names.append(f"{who}{age}")
    by = f" by {', '.join(names)}" if names else ""
    return f"held back {held_back.transactions} transactions{by}"
