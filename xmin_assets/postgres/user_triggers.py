"""Triggers and rules that users have put on a table: their code runs in our transactions.

What the server makes for foreign keys and deferrable constraints is not meant. session_replication_role decides which
fire (https://www.postgresql.org/docs/current/sql-altertable.html, at DISABLE/ENABLE TRIGGER).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.rows import fetch_as, fetch_one_as, fetch_value
from xmin_assets.postgres.server_facts import Fact, ask

_PARTS = """
parts AS (
    SELECT %(oid)s::oid AS oid
    UNION
    SELECT relid FROM pg_catalog.pg_partition_tree(%(oid)s::oid::regclass)
)
"""

_FIRING = f"""
WITH {_PARTS}
SELECT 'trigger ' || pg_catalog.quote_ident(t.tgname) AS name, false AS is_rule,
       CASE WHEN t.tginitdeferred THEN pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.tgname) END
           AS deferred
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE t.tgrelid IN (SELECT oid FROM parts) AND NOT t.tgisinternal AND t.tgenabled = ANY (%(enabled)s)
 UNION
SELECT 'rule ' || pg_catalog.quote_ident(r.rulename), true, NULL
  FROM pg_catalog.pg_rewrite r
 WHERE r.ev_class IN (SELECT oid FROM parts) AND r.ev_type <> '1' AND r.ev_enabled = ANY (%(enabled)s)
 ORDER BY 1, 3
"""

# https://www.postgresql.org/docs/current/monitoring-stats.html, at the functions pg_stat_get_xact_*: what this
# transaction has written, and earlier ones of the session that it has not reported yet.
_COUNTED = f"""
WITH {_PARTS}
SELECT coalesce(sum(pg_catalog.pg_stat_get_xact_tuples_inserted(oid)), 0)::int8 AS inserted,
       coalesce(sum(pg_catalog.pg_stat_get_xact_tuples_updated(oid)), 0)::int8 AS updated,
       coalesce(sum(pg_catalog.pg_stat_get_xact_tuples_deleted(oid)), 0)::int8 AS deleted
  FROM parts
"""

WRITTEN_FACTS = {
    "written_rows": Fact(
        "written_rows",
        "(pg_catalog.pg_stat_get_xact_tuples_inserted(0), pg_catalog.pg_stat_get_xact_tuples_updated(0), "
        "pg_catalog.pg_stat_get_xact_tuples_deleted(0))::text",
        tuple(f"pg_stat_get_xact_tuples_{what}(oid)" for what in ("inserted", "updated", "deleted")),
        "shows what triggers of the target's users have written in a merge",
        "a merge into a table with such triggers reads it twice more",
    )
}
"""What is asked of a target whose users' triggers fire in a merge."""

_MAY_SKIP = "SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET') AS may_skip"

SKIP = "SET LOCAL session_replication_role = replica"
"""Lets no trigger and no rule fire for the rest of the transaction, unless it is enabled for replicas or always."""


@dataclass(frozen=True)
class UserCode:
    """A trigger or a rule that fires when rows of a table are written."""

    name: str
    """For people: ``trigger audit``."""
    is_rule: bool
    deferred: str | None = None
    """The quoted name of its constraint, if it waits for the end of the transaction."""


@dataclass(frozen=True)
class Counted:
    """Row versions that a session has inserted, updated and deleted, whoever asked for it."""

    inserted: int
    updated: int
    deleted: int

    def since(self, before: Counted) -> Counted:
        """Return what was written after `before` was counted."""
        return Counted(self.inserted - before.inserted, self.updated - before.updated, self.deleted - before.deleted)


def firing(cursor: ext.cursor, oid: int, *, skipped: bool) -> tuple[UserCode, ...]:
    """Return what fires when rows of the table are written.

    Args:
        cursor: in a transaction.
        oid: of the table.
        skipped: whether that is in a transaction after `SKIP`.
    """
    cursor.execute(_FIRING, {"oid": oid, "enabled": ["R", "A"] if skipped else ["O", "A"]})
    return tuple(fetch_as(cursor, UserCode))


def names_of(code: Iterable[UserCode]) -> tuple[str, ...]:
    """Return the names for people, each once: partitions have triggers of the same name."""
    return tuple(dict.fromkeys(each.name for each in code))


def run_deferred(cursor: ext.cursor, code: Iterable[UserCode]) -> None:
    """Let triggers fire now that wait for the end of the transaction."""
    constraints = dict.fromkeys(each.deferred for each in code if each.deferred)
    if constraints:
        cursor.execute(
            sql.SQL("SET CONSTRAINTS {constraints} IMMEDIATE").format(
                constraints=sql.SQL(", ").join(map(sql.SQL, constraints))
            )
        )


def counted(cursor: ext.cursor, oid: int) -> Counted | None:
    """Return what the session has written to the table; None where the server does not tell, or does not count."""
    told = ask(cursor, WRITTEN_FACTS, sql.SQL(", pg_catalog.current_setting('track_counts')::bool AS counts"))
    if told["written_rows"] is None or not told["counts"]:
        return None
    cursor.execute(_COUNTED, {"oid": oid})
    return fetch_one_as(cursor, Counted)


def may_skip(cursor: ext.cursor) -> bool:
    """Return whether the role may run `SKIP`."""
    cursor.execute(_MAY_SKIP)
    return fetch_value(cursor, bool)
