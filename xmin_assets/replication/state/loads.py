"""Loads that are under way, remembered in the target.

How far a load is commits together with its rows: each file's COPY and its blocks are one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psycopg2.extensions as ext
from psycopg2.extras import execute_values

from xmin_assets.errors import StaleExtract
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_as, fetch_one_as, fetch_value
from xmin_assets.replication.manifests.load import Load, LoadProgress
from xmin_assets.replication.manifests.plan import BlockRange
from xmin_assets.replication.manifests.serialization import from_json, to_json
from xmin_assets.replication.state.migrations import SCHEMA, schema_version
from xmin_assets.replication.state.table_state import forget_state

LOADS_SINCE = 7
"""Version of the schema from which loads are remembered."""

# A load of which somebody dropped the table is none.
_HAS_TABLE = "pg_catalog.to_regclass('xmin_assets.' || pg_catalog.quote_ident(l.load_table)) IS NOT NULL"

_READ = f"""
SELECT l.facts::text AS facts
  FROM xmin_assets.loads l
 WHERE l.target_schema = %(schema)s AND l.target_table = %(table)s AND {_HAS_TABLE}
"""

_WRITE = """
INSERT INTO xmin_assets.loads (target_schema, target_table, load_id, load_table, bytes, facts)
VALUES (%(schema)s, %(table)s, %(load_id)s, %(load_table)s, %(bytes)s, %(facts)s)
"""

_FORGET = """
DELETE FROM xmin_assets.loads
 WHERE target_schema = %(schema)s AND target_table = %(table)s
RETURNING load_id
"""

_TOUCH = "UPDATE xmin_assets.loads SET updated_at = pg_catalog.now() WHERE load_id = %(load_id)s"

_OVERLAPS = """
SELECT EXISTS (
           SELECT FROM xmin_assets.loaded_ranges r
             JOIN unnest(%(filenodes)s::int8[], %(starts)s::int8[], %(ends)s::int8[])
                  AS new (filenode, first_block, end_block) USING (filenode)
            WHERE r.load_id = %(load_id)s
              AND r.first_block < new.end_block AND new.first_block < r.end_block) AS overlaps
"""

_NOTE = """
INSERT INTO xmin_assets.loaded_ranges (load_id, filenode, first_block, end_block, rows, bytes, max_xid) VALUES %s
"""

_DONE = """
SELECT filenode, first_block AS start, end_block AS "end"
  FROM xmin_assets.loaded_ranges WHERE load_id = %(load_id)s
 ORDER BY filenode, first_block
"""

_SUMS = """
SELECT coalesce(sum(rows), 0)::int8 AS rows, coalesce(sum(bytes), 0)::int8 AS bytes,
       coalesce(max(max_xid), 0)::int8 AS max_xid
  FROM xmin_assets.loaded_ranges WHERE load_id = %(load_id)s
"""

_TAKE_OUT = """
DELETE FROM xmin_assets.loaded_ranges
 WHERE load_id = %(load_id)s AND filenode = %(filenode)s AND first_block >= %(start)s AND end_block <= %(end)s
RETURNING rows, bytes
"""


_UNDER_WAY = f"""
SELECT l.target_schema AS schema, l.target_table AS name, l.load_table,
       extract(epoch FROM pg_catalog.now() - l.updated_at)::float8 AS idle_seconds,
       coalesce(least(1, r.done / nullif((SELECT sum((b ->> 'end')::int8 - (b ->> 'start')::int8)
                                           FROM pg_catalog.jsonb_array_elements(l.facts -> 'ranges') AS b), 0)), 0)
           ::float8 AS share,
       coalesce(r.rows, 0)::int8 AS rows
  FROM xmin_assets.loads l
  LEFT JOIN (SELECT load_id, sum(end_block - first_block) AS done, sum(rows) AS rows
               FROM xmin_assets.loaded_ranges GROUP BY load_id) AS r USING (load_id)
 WHERE {_HAS_TABLE}
   AND (%(schema)s::text IS NULL OR (l.target_schema = %(schema)s AND l.target_table = %(table)s))
"""


class _Stored(NamedTuple):
    facts: str


class _Sums(NamedTuple):
    rows: int
    bytes: int
    max_xid: int


class _Counted(NamedTuple):
    rows: int
    bytes: int


class _Gone(NamedTuple):
    load_id: str


def load_table_name(target: QualifiedName) -> str:
    """Return the name of the table that a load fills, in the schema ``xmin_assets``."""
    return f"load_{target.digest}"


def load_table(target: QualifiedName) -> QualifiedName:
    """Return the table that a load of this target fills."""
    return QualifiedName(SCHEMA, load_table_name(target))


def read_load(cursor: ext.cursor, target: QualifiedName) -> Load | None:
    """Return the load of this target table that is under way; None if there is none."""
    if schema_version(cursor) < LOADS_SINCE:
        return None
    cursor.execute(_READ, {"schema": target.schema, "table": target.name})
    stored = next(iter(fetch_as(cursor, _Stored)), None)
    return from_json(Load, stored.facts) if stored else None


@dataclass(frozen=True)
class LoadUnderWay:
    """How far a load is, for people."""

    schema: str
    name: str
    load_table: str
    idle_seconds: float
    """Since its last step forward."""
    share: float
    """Of the table's blocks, 0 to 1, whose rows are loaded."""
    rows: int

    @property
    def target(self) -> QualifiedName:
        """The target table."""
        return QualifiedName(self.schema, self.name)


def loads_of(cursor: ext.cursor, target: QualifiedName | None = None) -> list[LoadUnderWay]:
    """Return the loads that are under way in this database; with a target table that of this one, if there is one."""
    if schema_version(cursor) < LOADS_SINCE:
        return []
    schema, table = (target.schema, target.name) if target else (None, None)
    cursor.execute(_UNDER_WAY, {"schema": schema, "table": table})
    return fetch_as(cursor, LoadUnderWay)


def read_progress(cursor: ext.cursor, load: Load) -> LoadProgress:
    """Return how far a load is."""
    cursor.execute(_DONE, {"load_id": load.load_id})
    done = tuple(fetch_as(cursor, BlockRange))
    cursor.execute(_SUMS, {"load_id": load.load_id})
    sums = fetch_one_as(cursor, _Sums)
    return LoadProgress(done, sums.rows, sums.bytes, sums.max_xid)


def write_load(cursor: ext.cursor, target: QualifiedName, load: Load) -> None:
    """Remember a load that begins, in place of any other of this target."""
    forget_load(cursor, target)
    cursor.execute(
        _WRITE,
        {
            "schema": target.schema,
            "table": target.name,
            "load_id": load.load_id,
            "load_table": load_table_name(target),
            "bytes": load.bytes,
            "facts": to_json(load).decode(),
        },
    )


def forget_load(cursor: ext.cursor, target: QualifiedName) -> None:
    """Forget the load of a target table, if there is one; its table is the caller's to drop or to keep."""
    cursor.execute(_FORGET, {"schema": target.schema, "table": target.name})
    for gone in list(fetch_as(cursor, _Gone)):
        cursor.execute("DELETE FROM xmin_assets.loaded_ranges WHERE load_id = %(load_id)s", {"load_id": gone.load_id})
        forget_state(cursor, load_table(target))


def note_loaded(
    cursor: ext.cursor,
    load: Load,
    ranges: Sequence[BlockRange],
    *,
    rows: int,
    csv_bytes: int,
    max_xid: int | None = None,
) -> None:
    """Remember that the rows of these blocks are loaded, in the transaction that has loaded them.

    Transactions of one load come one after the other here, so two processes that work on the same load, because one
    of them has lost its table lock, never load the same blocks both.

    Args:
        cursor: in that transaction.
        load: the load.
        ranges: the blocks.
        rows: that they have.
        csv_bytes: of these rows.
        max_xid: the highest xid64 of the rows; None where it is not known.

    Raises:
        StaleExtract: the load is over, or another process has loaded some of the blocks.
    """
    if not ranges:
        return
    cursor.execute(_TOUCH, {"load_id": load.load_id})
    is_found = bool(cursor.rowcount)
    if is_found:
        cursor.execute(
            _OVERLAPS,
            {
                "load_id": load.load_id,
                "filenodes": [r.filenode for r in ranges],
                "starts": [r.start for r in ranges],
                "ends": [r.end for r in ranges],
            },
        )
    if not is_found or fetch_value(cursor, bool):
        raise StaleExtract(
            f"{load.planned.table}: another process has gone on with this load or ended it. Run the sync again."
        )
    # Where it is not known it must not be too low: it counts where the chunk of a file is never completed.
    highest = load.state.watermark - 1 if max_xid is None else max_xid
    # The rows are not known range by range; their sum is.
    counts = [(rows, csv_bytes), *[(0, 0)] * (len(ranges) - 1)]
    execute_values(
        cursor,
        _NOTE,
        [(load.load_id, r.filenode, r.start, r.end, *count, highest) for r, count in zip(ranges, counts, strict=True)],
    )


def note_chunk(cursor: ext.cursor, load: Load, chunk: Sequence[BlockRange], max_xid: int) -> None:
    """Put whole ranges in place of all that was noted of a chunk; blocks without a row are among them.

    Args:
        cursor: in a transaction of the target.
        load: the load.
        chunk: the ranges of which every row is loaded.
        max_xid: highest xid64 among the rows of the chunk.

    Raises:
        StaleExtract: see `note_loaded`.
    """
    rows = csv_bytes = 0
    for r in chunk:
        cursor.execute(_TAKE_OUT, {"load_id": load.load_id, "filenode": r.filenode, "start": r.start, "end": r.end})
        found = list(fetch_as(cursor, _Counted))
        rows += sum(counted.rows for counted in found)
        csv_bytes += sum(counted.bytes for counted in found)
    note_loaded(cursor, load, chunk, rows=rows, csv_bytes=csv_bytes, max_xid=max_xid)
