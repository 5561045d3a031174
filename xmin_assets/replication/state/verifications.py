"""What the last comparison of a table with its source found, for people and for monitoring.

No promise rests on it. A comparison that cannot note it, because its role may write nothing or the schema is of an
older release, has found what it found all the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import psycopg2.extensions as ext

from xmin_assets.config import TableConfig
from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_as, fetch_value
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.state.migrations import schema_version

SINCE = 6
"""The version of the schema that has the table."""

_log = logging.getLogger(__name__)

_WRITE = """
INSERT INTO xmin_assets.verifications AS v
       (target_schema, target_table, verified_at, missing, extra, different, pending, sample)
VALUES (%(schema)s, %(table)s, pg_catalog.clock_timestamp(), %(missing)s, %(extra)s, %(different)s, %(pending)s,
        %(sample)s)
    ON CONFLICT (target_schema, target_table) DO UPDATE
   SET verified_at = excluded.verified_at, missing = excluded.missing, extra = excluded.extra,
       different = excluded.different, pending = excluded.pending, sample = excluded.sample
"""

_READ = """
SELECT verified_at AS at, missing, extra, different, pending, sample
  FROM xmin_assets.verifications
 WHERE target_schema = %(schema)s AND target_table = %(table)s
"""


@dataclass(frozen=True)
class PastVerification:
    """What a comparison found."""

    at: datetime
    missing: int
    extra: int
    different: int
    pending: int
    sample: float | None
    """The share of the rows that was compared; None for all."""

    @property
    def matched(self) -> bool:
        """Whether the target was what the last sync left."""
        return not (self.missing or self.extra or self.different)


def remember_verification(
    target: Database,
    table: TableConfig,
    *,
    missing: int,
    extra: int,
    different: int,
    pending: int,
    sample: float | None,
) -> None:
    """Note what a comparison found; where the target does not let us, nothing is noted."""
    name = table.target_name
    found = {"missing": missing, "extra": extra, "different": different, "pending": pending, "sample": sample}
    try:
        with transaction_on(target, TransactionMode.WRITE, f"{table.label}: noting what was compared") as cursor:
            cursor.execute("SELECT pg_catalog.current_setting('default_transaction_read_only') = 'on' AS is_read_only")
            # To migrate the schema is for a sync.
            if not fetch_value(cursor, bool) and schema_version(cursor) >= SINCE:
                cursor.execute(_WRITE, {"schema": name.schema, "table": name.name, **found})
    except XminAssetsError:
        _log.debug("%s: what was compared was not noted", table.label, exc_info=True)


def read_verification(cursor: ext.cursor, target: QualifiedName) -> PastVerification | None:
    """Return what the last comparison of a table found; None if none is known."""
    if schema_version(cursor) < SINCE:
        return None
    cursor.execute(_READ, {"schema": target.schema, "table": target.name})
    return next(iter(fetch_as(cursor, PastVerification)), None)
