"""Triggers and rules that users have put on a table: their code runs in our transactions.

What the server makes for foreign keys and deferrable constraints is not meant. session_replication_role decides which
fire (https://www.postgresql.org/docs/current/sql-altertable.html, at DISABLE/ENABLE TRIGGER).
"""

from __future__ import annotations

import psycopg2.extensions as ext

from xmin_assets.postgres.rows import fetch_value

_FIRING = """
WITH parts AS (
    SELECT %(oid)s::oid AS oid
    UNION
    SELECT relid FROM pg_catalog.pg_partition_tree(%(oid)s::oid::regclass)
)
SELECT 'trigger ' || pg_catalog.quote_ident(t.tgname) AS name
  FROM pg_catalog.pg_trigger t
 WHERE t.tgrelid IN (SELECT oid FROM parts) AND NOT t.tgisinternal AND t.tgenabled = ANY (%(enabled)s)
 UNION
SELECT 'rule ' || pg_catalog.quote_ident(r.rulename)
  FROM pg_catalog.pg_rewrite r
 WHERE r.ev_class IN (SELECT oid FROM parts) AND r.ev_type <> '1' AND r.ev_enabled = ANY (%(enabled)s)
 ORDER BY 1
"""

_MAY_SKIP = "SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET') AS may_skip"

SKIP = "SET LOCAL session_replication_role = replica"
"""Lets no trigger and no rule fire for the rest of the transaction, unless it is enabled for replicas or always."""


def firing(cursor: ext.cursor, oid: int, *, skipped: bool) -> tuple[str, ...]:
    """Return what fires when rows of the table are written, for people: ``trigger audit``.

    Args:
        cursor: in a transaction.
        oid: of the table.
        skipped: whether that is in a transaction after `SKIP`.
    """
    cursor.execute(_FIRING, {"oid": oid, "enabled": ["R", "A"] if skipped else ["O", "A"]})
    return tuple(name for (name,) in cursor.fetchall())


def may_skip(cursor: ext.cursor) -> bool:
    """Return whether the role may run `SKIP`."""
    cursor.execute(_MAY_SKIP)
    return fetch_value(cursor, bool)
