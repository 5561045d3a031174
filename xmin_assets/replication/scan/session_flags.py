"""What a SELECT has seen beside its rows, left in the session for a later statement of the same transaction.

A COPY gives rows and nothing else, and to put an expression of ``xmin`` into an aggregate doubles the cost of a scan
(docs/performance.md). So a statement that reads a range leaves what it has seen in two custom parameters:

`xmin_assets.flagged_range`
    Set by the count query when it meets the first row that has changed, and by the query of all rows when it meets the
    first row whose xid is not the common one. Its value names the range. It is read by the count query itself, in its
    result, and by a statement after the COPY.

`xmin_assets.max_xid_seen`
    Set by the query of changed rows whenever a row has a higher xid64 than all before it. It is read by a statement
    after the COPY.

The protocol:

- Both are set by ``set_config(..., is_local => true)``. They last until the end of the worker's transaction, and a
  proxy that lends the connection to others afterwards lends nothing of ours.
- A worker reads many ranges in one transaction, one after the other. A flag that an earlier range has left names that
  range, so it is never taken for another one's. The highest xid is meant to go on from range to range.
- A flag is raised by a subquery that depends on no row. PostgreSQL evaluates it for the first row that needs it and
  never again ("initplans" in the README of its executor), so that it costs nothing for all other rows.
- If a task fails, another worker does it again, in another session. Nothing has to be taken back.
"""

from __future__ import annotations

from psycopg2 import sql

from xmin_assets.replication.scan.ranges import CtidRange

_FLAGGED_RANGE = sql.Literal("xmin_assets.flagged_range")
_MAX_XID_SEEN = sql.Literal("xmin_assets.max_xid_seen")


class SessionFlags:
    """SQL that sets and reads what statements leave in the session; the module's docstring has the protocol."""

    @staticmethod
    def raise_flag(ctid_range: CtidRange) -> sql.Composable:
        """Build a condition that is true, is evaluated once at most, and flags the range."""
        return sql.SQL("(SELECT pg_catalog.set_config({parameter}, {name}, true)) IS NOT NULL").format(
            parameter=_FLAGGED_RANGE, name=_name(ctid_range)
        )

    @staticmethod
    def is_flagged(ctid_range: CtidRange) -> sql.Composable:
        """Build the expression that tells whether the range is flagged."""
        return sql.SQL("pg_catalog.current_setting({parameter}, true) IS NOT DISTINCT FROM {name}").format(
            parameter=_FLAGGED_RANGE, name=_name(ctid_range)
        )

    @classmethod
    def remember_max(cls, xid64: sql.Composable) -> sql.Composable:
        """Build an expression that has the value of the xid64 and remembers it if it is the highest so far."""
        return sql.SQL("""
            CASE WHEN {xid64} > {max_xid_seen}
                 THEN pg_catalog.set_config({parameter}, ({xid64})::text, true)::int8
                 ELSE {xid64} END
        """).format(xid64=xid64, max_xid_seen=cls.max_xid_seen(), parameter=_MAX_XID_SEEN)

    @staticmethod
    def max_xid_seen() -> sql.Composable:
        """Build the highest xid64 that was remembered in this transaction; 0 for none."""
        # After a transaction that has set it, such a parameter is empty.
        return sql.SQL("coalesce(nullif(pg_catalog.current_setting({parameter}, true), ''), '0')::int8").format(
            parameter=_MAX_XID_SEEN
        )


def _name(ctid_range: CtidRange) -> sql.Composable:
    return sql.Literal(f"{ctid_range.leaf.oid} {ctid_range.start}" if ctid_range.leaf else "whole")
