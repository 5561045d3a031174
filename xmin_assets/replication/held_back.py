"""Who holds the horizon back, and how far.

The horizon is the oldest transaction that is still open anywhere in the cluster. What was changed since it began is
read again by every sync until it ends: nothing is lost, but work is repeated. A session that only reads has no
transaction id and holds nothing back.
"""

from __future__ import annotations

import psycopg2.extensions as ext

from xmin_assets.replication.manifest import HeldBack, Holder

SHOWN = 5
"""Holders that are named."""

_TRANSACTIONS = """
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 - pg_snapshot_xmin(pg_current_snapshot())::text::int8
"""

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
    """How far the horizon of the cursor's snapshot is behind, and the oldest open transactions now."""
    cursor.execute(_TRANSACTIONS)
    (transactions,) = cursor.fetchone() or (0,)
    if not transactions:
        return HeldBack(0)
    cursor.execute(_HOLDERS, (SHOWN,))
    return HeldBack(transactions, tuple(Holder(*row) for row in cursor.fetchall()))


def describe(held_back: HeldBack) -> str:
    """One line for people."""
    if not held_back.transactions:
        return "not held back"
    names = []
    for holder in held_back.by:
        who = f"pid {holder.name}" if holder.kind == "session" else f"prepared transaction {holder.name!r}"
        age = "" if holder.seconds is None else f" for {holder.seconds:.0f} s"
        names.append(f"{who}{age}")
    by = f" by {', '.join(names)}" if names else ""
    return f"held back {held_back.transactions} transactions{by}"
