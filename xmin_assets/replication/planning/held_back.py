"""Who holds the horizon back, and how far.

The horizon is the oldest transaction that is still open anywhere in the cluster. What was changed since it began is
read again by every sync until it ends: nothing is lost, but work is repeated. A session that only reads has no
transaction id and holds nothing back.
"""

from __future__ import annotations

from itertools import chain
from operator import itemgetter

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres import xid
from xmin_assets.postgres.server import horizon
from xmin_assets.postgres.server_facts import Fact, ask
from xmin_assets.replication.manifests.plan import HeldBack, Holder

SHOWN = 5
"""Holders that are named."""

MANY = 1_000_000
"""Transactions from which the horizon is too far behind in any case."""

_WHO = "names who holds the watermark back"

# backend_xid is shown to everybody, xact_start only to the session's own role and to pg_read_all_stats.
HOLDER_FACTS = {
    fact.name: fact
    for fact in (
        Fact(
            "open_sessions",
            """(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                               'kind', 'session', 'name', a.pid::text, 'xid', a.backend_xid::text::int8,
                               'age', pg_catalog.age(a.backend_xid),
                               'seconds', extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8))
                  FROM pg_catalog.pg_stat_activity a
                 WHERE a.backend_xid IS NOT NULL)""",
            ("pg_stat_get_activity(int)", "pg_stat_activity"),
            _WHO,
            "plan and status say how far it is held back, and not by which session",
        ),
        Fact(
            "prepared_transactions",
            """(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                               'kind', 'prepared', 'name', p.gid, 'xid', p.transaction::text::int8,
                               'age', pg_catalog.age(p.transaction),
                               'seconds', extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::float8))
                  FROM pg_catalog.pg_prepared_xacts p)""",
            ("pg_prepared_xact()", "pg_prepared_xacts"),
            _WHO,
            "plan and status say how far it is held back, and not by which prepared transaction",
        ),
    )
}
"""What is asked of a source when transactions are open there."""


def observe_held_back(cursor: ext.cursor) -> HeldBack:
    """Return how far the horizon of the cursor's snapshot is behind, and the oldest open transactions now."""
    # Not the snapshot's xmax: that is only one past the last transaction that has ended.
    oldest = horizon(cursor)
    transactions = xid.read_next_xid(cursor, oldest) - oldest
    if not transactions:
        return HeldBack(0)
    told = ask(cursor, HOLDER_FACTS, sql.SQL(""))
    holders = sorted(chain.from_iterable(told[name] or () for name in HOLDER_FACTS), key=itemgetter("age"))
    named = [{name: value for name, value in holder.items() if name != "age"} for holder in holders[: -SHOWN - 1 : -1]]
    return HeldBack(transactions, tuple(Holder(**holder) for holder in named))


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
