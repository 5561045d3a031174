"""What the target remembers: one row per replicated table, committed in the transaction that merges the rows.

The rows live in the target database's schema ``xmin_assets``, beside the staged tables. The schema has a version
of its own and is migrated by the first sync that needs a newer one.
"""

from __future__ import annotations

import psycopg2.extensions as ext

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.manifests.merge import MergedTarget
from xmin_assets.replication.manifests.serialization import from_json, to_json
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.state.migrations import FACTS_WITH_WAL_POSITIONS, schema_version


def lock_table_state(cursor: ext.cursor, target: QualifiedName) -> None:
    """Let one transaction at a time decide about this target table, whether or not it has a state yet."""
    cursor.execute(
        "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('xmin_assets'), pg_catalog.hashtext(%s))",
        (target.digest,),
    )


# A state is read before anything is written: the schema may still be of an older release.
_READ = f"""
SELECT ({FACTS_WITH_WAL_POSITIONS})::text AS facts, result::text AS result
  FROM xmin_assets.state
 WHERE target_schema = %s AND target_table = %s
"""


def read_state(cursor: ext.cursor, target: QualifiedName) -> State | None:
    """Return the state of a target table; None if it was never merged."""
    found = _read(cursor, target)
    return from_json(State, found[0]) if found else None


def read_result(cursor: ext.cursor, target: QualifiedName) -> MergedTarget | None:
    """Return what the last merge of this table reported."""
    found = _read(cursor, target)
    return from_json(MergedTarget, found[1]) if found else None


def _read(cursor: ext.cursor, target: QualifiedName) -> tuple[str, str] | None:
    if schema_version(cursor) == 0:
        return None
    cursor.execute(_READ, (target.schema, target.name))
    row: tuple[str, str] | None = cursor.fetchone()
    return row


def write_state(cursor: ext.cursor, target: QualifiedName, state: State, result: MergedTarget) -> None:
    """Replace the state of a target table. The caller holds `lock_table_state`."""
    cursor.execute(
        """
        INSERT INTO xmin_assets.state
               (target_schema, target_table, revision, sync_id, watermark, resync, max_xmin, rows, source_table,
                target_oid, merged_at, facts, result)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (target_schema, target_table) DO UPDATE SET
               revision = excluded.revision, sync_id = excluded.sync_id, watermark = excluded.watermark,
               resync = excluded.resync, max_xmin = excluded.max_xmin, rows = excluded.rows,
               source_table = excluded.source_table,
               target_oid = excluded.target_oid, merged_at = excluded.merged_at,
               facts = excluded.facts, result = excluded.result
        """,
        (
            target.schema,
            target.name,
            state.revision,
            state.sync_id,
            state.watermark,
            state.resync,
            state.max_xmin,
            state.rows,
            state.source_table,
            state.target_oid,
            state.merged_at,
            to_json(state).decode(),
            to_json(result).decode(),
        ),
    )
