"""What the target remembers: one row per replicated table, committed in the transaction that merges the rows.

The rows live in the target database's schema ``xmin_assets``, beside the staged tables. The schema has a version
of its own and is migrated by the first sync that needs a newer one.
"""

from __future__ import annotations

from typing import NamedTuple

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_as
from xmin_assets.replication.manifests.merge import MergedTarget
from xmin_assets.replication.manifests.serialization import from_json, to_json
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.state.migrations import FACTS_WITH_WAL_POSITIONS, SCHEMA, schema_version

# A state is read before anything is written: the schema may still be of an older release.
_READ = f"""
SELECT ({FACTS_WITH_WAL_POSITIONS})::text AS facts, result::text AS result
  FROM xmin_assets.state
 WHERE target_schema = %(schema)s AND target_table = %(table)s
"""

_WRITE = """
INSERT INTO xmin_assets.state
       (target_schema, target_table, revision, sync_id, watermark, resync, max_xmin, rows, source_table, target_oid,
        merged_at, facts, result)
VALUES (%(schema)s, %(table)s, %(revision)s, %(sync_id)s, %(watermark)s, %(resync)s, %(max_xmin)s, %(rows)s,
        %(source_table)s, %(target_oid)s, %(merged_at)s, %(facts)s, %(result)s)
ON CONFLICT (target_schema, target_table) DO UPDATE SET
       revision = excluded.revision,
       sync_id = excluded.sync_id,
       watermark = excluded.watermark,
       resync = excluded.resync,
       max_xmin = excluded.max_xmin,
       rows = excluded.rows,
       source_table = excluded.source_table,
       target_oid = excluded.target_oid,
       merged_at = excluded.merged_at,
       facts = excluded.facts,
       result = excluded.result
"""


def lock_table_state(cursor: ext.cursor, target: QualifiedName) -> None:
    """Let one transaction at a time decide about this target table, whether or not it has a state yet."""
    cursor.execute(
        "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('xmin_assets'), pg_catalog.hashtext(%s))",
        (target.digest,),
    )


class _Stored(NamedTuple):
    """A row of the table ``xmin_assets.state``: two manifests as JSON."""

    facts: str
    result: str


def read_state(cursor: ext.cursor, target: QualifiedName) -> State | None:
    """Return the state of a target table; None if it was never merged."""
    found = _read(cursor, target)
    return from_json(State, found.facts) if found else None


def read_result(cursor: ext.cursor, target: QualifiedName) -> MergedTarget | None:
    """Return what the last merge of this table reported."""
    found = _read(cursor, target)
    return from_json(MergedTarget, found.result) if found else None


def _read(cursor: ext.cursor, target: QualifiedName) -> _Stored | None:
    if schema_version(cursor) == 0:
        return None
    cursor.execute(_READ, {"schema": target.schema, "table": target.name})
    return next(iter(fetch_as(cursor, _Stored)), None)


def write_state(cursor: ext.cursor, target: QualifiedName, state: State, result: MergedTarget) -> None:
    """Replace the state of a target table. The caller holds `lock_table_state`."""
    cursor.execute(
        _WRITE,
        {
            "schema": target.schema,
            "table": target.name,
            "revision": state.revision,
            "sync_id": state.sync_id,
            "watermark": state.watermark,
            "resync": state.resync,
            "max_xmin": state.max_xmin,
            "rows": state.rows,
            "source_table": state.source_table,
            "target_oid": state.target_oid,
            "merged_at": state.merged_at,
            "facts": to_json(state).decode(),
            "result": to_json(result).decode(),
        },
    )


def forget_state(cursor: ext.cursor, target: QualifiedName) -> None:
    """Remove the state of a table that a load has filled, and what was noted of its merges."""
    for table in ("state", "history", "failures"):
        cursor.execute(
            sql.SQL("DELETE FROM {} WHERE target_schema = %(schema)s AND target_table = %(table)s").format(
                sql.Identifier(SCHEMA, table)
            ),
            {"schema": target.schema, "table": target.name},
        )
