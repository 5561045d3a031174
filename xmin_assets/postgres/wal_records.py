"""The last records of a server's WAL before a position, by which its history is known again after a restart.

They are read by the extension pg_walinspect (https://www.postgresql.org/docs/current/pgwalinspect.html), and those
from the last end of a transaction on are noted. Such a record has the time of that end, in microseconds: another
history has another one in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.rows import fetch_as, fetch_value_if_any
from xmin_assets.postgres.server_facts import is_refusal

NEAR = 1 << 16
"""Bytes of WAL before a position in which the end of a transaction is looked for first."""

MOST_STEPS = 2000
"""Records before those that are looked at one by one, backwards."""

# A server that lacks the function raises nothing.
_INSPECTOR = """
SELECT n.nspname::text AS schema,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) AS segment
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
  JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid AND p.proname = 'pg_get_wal_records_info' AND p.pronargs = 2
 WHERE e.extname = 'pg_walinspect'
   AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
   AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
"""

_ENDS = """r.resource_manager = 'Transaction'
           AND r.record_type IN ('COMMIT', 'ABORT', 'COMMIT_PREPARED', 'ABORT_PREPARED')"""

# What a record says of itself is in UTC, as transactions are pinned to.
_RECORDS = f"""
SELECT (r.start_lsn - '0/0'::pg_lsn)::int8 AS start,
       (r.end_lsn - '0/0'::pg_lsn)::int8 AS stop,
       (r.prev_lsn - '0/0'::pg_lsn)::int8 AS before,
       {_ENDS} AS ends_transaction,
       r::text AS record
  FROM {{}}.pg_get_wal_records_info('0/0'::pg_lsn + %(start)s::numeric, '0/0'::pg_lsn + %(stop)s::numeric) AS r
 ORDER BY 1
"""


_BACKWARDS = f"""
WITH RECURSIVE steps AS (
    SELECT 1 AS number, r.start_lsn, r.prev_lsn, {_ENDS} AS ends_transaction
      FROM {{schema}}.pg_get_wal_record_info('0/0'::pg_lsn + %(start)s::numeric) AS r
     UNION ALL
    SELECT s.number + 1, r.start_lsn, r.prev_lsn, {_ENDS}
      FROM steps s
     CROSS JOIN LATERAL {{schema}}.pg_get_wal_record_info(s.prev_lsn) AS r
     WHERE NOT s.ends_transaction AND s.number < %(most)s
)
SELECT (start_lsn - '0/0'::pg_lsn)::int8 AS start FROM steps WHERE ends_transaction
"""


@dataclass(frozen=True)
class WalRecords:
    """The records of WAL from the last end of a transaction up to a position."""

    start: int
    """Where that one begins, in bytes."""
    stop: int
    """The position, where the last one ends."""
    digest: str
    """Of all that the server says of each: place, length, transaction and contents in outline."""


class WalUnreadable(Exception):
    """The WAL cannot be looked into; the message says why."""


class _Record(NamedTuple):
    start: int
    stop: int
    before: int
    """Where the record before this one begins."""
    ends_transaction: bool
    record: str


class _Inspector(NamedTuple):
    schema: str
    """Of pg_walinspect."""
    segment: int
    """Bytes of a WAL file."""


def last_records(cursor: ext.cursor, position: int) -> WalRecords | None:
    """Note the last records before a position; None if there is no end of a transaction among the nearer ones.

    Args:
        cursor: in a transaction.
        position: where a record ends, in bytes; on the server's disk.

    Raises:
        WalUnreadable: the server does not show them.
    """
    with _readable(cursor):
        inspector = _inspector(cursor)
        # A file before this one may have been left before its end, and no record is found from within the rest.
        file = (position - 1) // inspector.segment * inspector.segment
        found = _records(cursor, inspector, max(file, position - NEAR), position)
        ends = [number for number, record in enumerate(found) if record.ends_transaction]
        if ends:
            return _noted(found[ends[-1] :], position)
        start = _last_end(cursor, inspector, found[0].before) if found else None
        return None if start is None else _noted(_records(cursor, inspector, start, position), position)


def same_records(cursor: ext.cursor, noted: WalRecords) -> bool:
    """Return whether the server's WAL has these records where they were noted.

    Args:
        cursor: in a transaction.
        noted: at another time, perhaps of another server.

    Raises:
        WalUnreadable: the server does not show what it has there.
    """
    with _readable(cursor):
        return _noted(_records(cursor, _inspector(cursor), noted.start, noted.stop), noted.stop) == noted


def _inspector(cursor: ext.cursor) -> _Inspector:
    cursor.execute(_INSPECTOR)
    inspector = next(iter(fetch_as(cursor, _Inspector)), None)
    if inspector is None:
        raise WalUnreadable("its WAL is shown by the extension pg_walinspect, which is not there or not granted")
    return inspector


def _records(cursor: ext.cursor, inspector: _Inspector, start: int, stop: int) -> list[_Record]:
    cursor.execute(sql.SQL(_RECORDS).format(sql.Identifier(inspector.schema)), {"start": start, "stop": stop})
    return fetch_as(cursor, _Record)


def _last_end(cursor: ext.cursor, inspector: _Inspector, start: int) -> int | None:
    """Find the end of a transaction at a record or before it, without a look at all WAL in between."""
    statement = sql.SQL(_BACKWARDS).format(schema=sql.Identifier(inspector.schema))
    cursor.execute(statement, {"start": start, "most": MOST_STEPS})
    return fetch_value_if_any(cursor, int)


def _noted(records: list[_Record], position: int) -> WalRecords | None:
    """Return what is noted of records; None if they do not reach the position."""
    if not records or records[-1].stop != position:
        return None
    digest = hashlib.sha256("\n".join(record.record for record in records).encode()).hexdigest()
    return WalRecords(records[0].start, position, digest)


@contextmanager
def _readable(cursor: ext.cursor) -> Iterator[None]:
    """Let the transaction go on where the server shows nothing."""
    cursor.execute("SAVEPOINT wal_records")
    try:
        yield
    except psycopg2.Error as error:
        if not is_refusal(error):
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT wal_records; RELEASE SAVEPOINT wal_records")
        raise WalUnreadable(f"its WAL is not shown: {one_line(error)}") from error
    except WalUnreadable:
        cursor.execute("RELEASE SAVEPOINT wal_records")
        raise
    cursor.execute("RELEASE SAVEPOINT wal_records")
