"""Earlier merges, as the target remembers them: one row each, appended in the merge transaction, the newest kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2.extensions as ext

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_as
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.state.migrations import schema_version

SINCE_VERSION = 2
"""The version of the schema ``xmin_assets`` that brought the history. An older one has none."""


_STATIONS = ("snapshot", "extract", "stage", "merge")

# Numbers have no gaps, so those to forget are found without counting. The caller's lock keeps two merges of one table
# from taking the same number.
_APPEND = """
WITH last AS (
    SELECT coalesce(max(number), 0) AS number
      FROM xmin_assets.history
     WHERE target_schema = %(schema)s AND target_table = %(table)s
), forgotten AS (
    DELETE FROM xmin_assets.history AS h
     USING last
     WHERE h.target_schema = %(schema)s AND h.target_table = %(table)s AND h.number <= last.number + 1 - %(keep)s
)
INSERT INTO xmin_assets.history
       (target_schema, target_table, number, sync_id, mode, reason, rows_extracted, rows_inserted, rows_updated,
        rows_deleted, rows_unchanged, rows, watermark_before, watermark, max_xmin, bytes_extracted, seconds_snapshot,
        seconds_extract, seconds_stage, seconds_merge, target_oid, target_xid, merged_at)
SELECT %(schema)s, %(table)s, last.number + 1, %(sync_id)s, %(mode)s, %(reason)s, %(extracted)s, %(inserted)s,
       %(updated)s, %(deleted)s, %(unchanged)s, %(rows)s, %(watermark_before)s, %(watermark)s, %(max_xmin)s, %(bytes)s,
       %(snapshot)s, %(extract)s, %(stage)s, %(merge)s, %(target_oid)s,
       -- The id that the merged rows bear is that of the state, which was just written: pg_current_xact_id() may be
       -- forbidden, and is not that of rows that were written behind a savepoint, which is younger.
       -- Both ages count from the same id, which may be lower than either: only their difference means anything.
       (SELECT h.horizon + ((pg_catalog.age((h.horizon %% 4294967296)::text::xid)::int8 - pg_catalog.age(s.xmin))
                            & 4294967295)
          FROM xmin_assets.state s,
               (SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8 AS horizon) h
         WHERE s.target_schema = %(schema)s AND s.target_table = %(table)s),
       %(merged_at)s
  FROM last
"""

_READ = """
SELECT sync_id, mode, reason, rows_extracted, rows_inserted, rows_updated, rows_deleted, rows_unchanged, rows,
       watermark_before, watermark, max_xmin, bytes_extracted,
       seconds_snapshot, seconds_extract, seconds_stage, seconds_merge, target_xid, merged_at
  FROM xmin_assets.history
 WHERE target_schema = %(schema)s AND target_table = %(table)s
 ORDER BY number DESC
 LIMIT %(limit)s
"""

_XIDS = """
SELECT target_xid
  FROM xmin_assets.history
 WHERE target_schema = %(schema)s AND target_table = %(table)s AND target_oid = %(target_oid)s
"""


@dataclass(frozen=True)
class PastMerge:
    """What one merge did."""

    sync_id: str
    mode: str
    reason: str
    rows_extracted: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    rows_unchanged: int
    rows: int
    """Rows that the target shared with the source when it had ended."""
    watermark_before: int | None
    watermark: int
    max_xmin: int
    bytes_extracted: int
    seconds: dict[str, float]
    """Per station."""
    target_xid: int
    """The xid64 of the merge transaction, in the target's cluster."""
    merged_at: datetime


@dataclass(frozen=True)
class MergeXids:
    """The transactions that wrote a target table, as far as they are remembered."""

    oldest: int | None
    """Of a row version with a lower xid64 nothing can be said; None: of no version."""
    known: frozenset[int] = frozenset()

    def foreign(self, xid64: int) -> bool:
        """Return whether a row version was written by somebody else, for all that is remembered."""
        return self.oldest is not None and xid64 > self.oldest and xid64 not in self.known


def append(
    cursor: ext.cursor, target: QualifiedName, staged: StagedTable, state: State, result: MergedTarget, keep: int
) -> None:
    """Remember a merge, and forget the oldest one beyond `keep`: one statement.

    The caller holds `lock_table_state`, and has written the state.
    """
    cursor.execute(
        _APPEND,
        {
            "schema": target.schema,
            "table": target.name,
            "keep": keep,
            "sync_id": result.sync_id,
            "mode": result.mode.value,
            "reason": result.reason,
            "extracted": result.rows_extracted,
            "inserted": result.inserted,
            "updated": result.updated,
            "deleted": result.deleted,
            "unchanged": result.unchanged,
            "rows": result.rows,
            "watermark_before": result.watermark_before,
            "watermark": result.watermark,
            "max_xmin": result.max_xmin,
            "bytes": result.bytes_extracted,
            "snapshot": staged.extract.snapshot.seconds,
            "extract": staged.extract.seconds,
            "stage": staged.seconds,
            "merge": result.seconds,
            "target_oid": state.target_oid,
            "merged_at": state.merged_at,
        },
    )


def read_history(cursor: ext.cursor, target: QualifiedName, limit: int) -> tuple[PastMerge, ...]:
    """Return the last merges of a target table, the newest one first."""
    if schema_version(cursor) < SINCE_VERSION:
        return ()
    cursor.execute(_READ, {"schema": target.schema, "table": target.name, "limit": limit})
    return tuple(fetch_as(cursor, _past_merge))


def _past_merge(**facts: Any) -> PastMerge:
    seconds = {station: facts.pop(f"seconds_{station}") for station in _STATIONS}
    return PastMerge(seconds=seconds, **facts)


def merge_xids(cursor: ext.cursor, target: QualifiedName, target_oid: int) -> MergeXids:
    """Return the transactions that are known to have written this very table.

    Merges into a table of that name that is gone do not count: between them and the first one into this table its rows
    were staged, by transactions that nobody remembers.
    """
    if schema_version(cursor) < SINCE_VERSION:
        return MergeXids(None)
    cursor.execute(_XIDS, {"schema": target.schema, "table": target.name, "target_oid": target_oid})
    xids = frozenset(xid for (xid,) in cursor.fetchall())
    return MergeXids(min(xids, default=None), xids)
