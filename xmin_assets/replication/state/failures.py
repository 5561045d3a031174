"""What the last sync of a table that failed had to say, until another one is merged.

No promise rests on it: it is there for people who ask how a copy is. A sync that succeeds need not take it back, since
what failed before it was merged is over.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import psycopg2.extensions as ext

from xmin_assets.config import TableConfig
from xmin_assets.errors import Cancelled, ConnectionFailed, TableBusy, XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_as
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.state.migrations import ensure_schema, schema_version

SINCE = 5
"""The version of the schema that has the table."""

MOST_LETTERS = 2000
"""Letters that are kept of an error."""

_log = logging.getLogger(__name__)

_WRITE = """
INSERT INTO xmin_assets.failures (target_schema, target_table, failed_at, error)
VALUES (%(schema)s, %(table)s, pg_catalog.clock_timestamp(), %(error)s)
ON CONFLICT (target_schema, target_table) DO UPDATE SET failed_at = excluded.failed_at, error = excluded.error
"""

_READ = """
SELECT f.failed_at AS at, f.error
  FROM xmin_assets.failures f
 WHERE f.target_schema = %(schema)s AND f.target_table = %(table)s
   AND NOT EXISTS (SELECT FROM xmin_assets.state s
                    WHERE s.target_schema = f.target_schema AND s.target_table = f.target_table
                      AND s.merged_at > f.failed_at)
"""


@dataclass(frozen=True)
class FailedSync:
    """A sync that failed, and after which none was merged."""

    at: datetime
    error: str


_NOT_OF_THE_TABLE = (Cancelled, ConnectionFailed, TableBusy)


def remember_failure(target: Database, table: TableConfig, error: XminAssetsError) -> None:
    """Note why a sync of a table has failed; where the target does not let us, nothing is noted."""
    if isinstance(error, _NOT_OF_THE_TABLE):
        return
    try:
        with transaction_on(target, TransactionMode.WRITE, f"{table.label}: noting the failure") as cursor:
            ensure_schema(cursor)
            name = table.target_name
            cursor.execute(_WRITE, {"schema": name.schema, "table": name.name, "error": str(error)[:MOST_LETTERS]})
    except XminAssetsError:
        _log.debug("%s: the failure was not noted", table.label, exc_info=True)


def read_failure(cursor: ext.cursor, target: QualifiedName) -> FailedSync | None:
    """Return the last failure of a table that no merge has followed; None if there is none."""
    if schema_version(cursor) < SINCE:
        return None
    cursor.execute(_READ, {"schema": target.schema, "table": target.name})
    return next(iter(fetch_as(cursor, FailedSync)), None)
