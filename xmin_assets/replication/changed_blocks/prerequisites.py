"""What a source must offer so that its changed blocks can be found, and what is missing, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import psycopg2
import psycopg2.extensions as ext

from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.rows import fetch_one_as, fetch_value
from xmin_assets.postgres.server import Server

MIN_VERSION = 17
"""The major version from which servers summarize WAL."""

# A server that lacks a function or a role altogether raises an error where it is asked for rights by their names.
_SETUP = """
SELECT pg_catalog.current_setting('summarize_wal')::bool AS summarizes,
       pg_catalog.current_setting('wal_level') AS wal_level,
       EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = ANY(%(leaves)s::oid[]) AND relpersistence <> 'p')
           AS has_unlogged,
       (SELECT pg_catalog.bool_and(coalesce(
                   pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.' || f), 'EXECUTE'), false))
          FROM pg_catalog.unnest(ARRAY['pg_available_wal_summaries()', 'pg_get_wal_summarizer_state()',
                                       'pg_wal_summary_contents(int8, pg_lsn, pg_lsn)']) AS f) AS may_read_summaries,
       (SELECT n.nspname::text
          FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pg_walinspect') AS inspector,
       coalesce(pg_catalog.pg_has_role(pg_catalog.to_regrole('pg_checkpoint'), 'USAGE'), false) AS may_checkpoint
"""

_INSPECTS = """
SELECT coalesce(pg_catalog.has_function_privilege(
           pg_catalog.to_regprocedure(pg_catalog.format('%%I.%%s', %(schema)s, %(function)s)), 'EXECUTE'), false)
           AS may_inspect
"""

BLOCK_INFO = "pg_get_wal_block_info(pg_lsn, pg_lsn, boolean)"
"""The function of pg_walinspect that tells of WAL which is not summarized yet."""


class BlockMapUnavailable(Exception):
    """The changed blocks cannot be found; the message says why."""


def scan_because(reason: str) -> str:
    """Say which blocks are read, and why, where that is all of them."""
    return f"every block, because {reason}"


@dataclass(frozen=True)
class WalAccess:
    """What the source offers for the WAL that is not summarized yet."""

    inspector: str | None
    """The schema of pg_walinspect, if the role may use it."""
    checkpoint: bool
    """Whether a checkpoint may be ordered."""


class _Offered(NamedTuple):
    """What the source's settings, grants and extensions allow."""

    summarizes: bool
    wal_level: str
    has_unlogged: bool
    may_read_summaries: bool
    inspector: str | None
    """The schema of pg_walinspect."""
    may_checkpoint: bool


@dataclass(frozen=True)
class MissingPrerequisite:
    """Something without which a table is read whole."""

    reason: str
    advice: str
    """What to change."""


WAY_TO_THE_PRESENT = MissingPrerequisite(
    "WAL that is not summarized yet can be read neither by pg_walinspect nor summarized by a checkpoint",
    "At the source: CREATE EXTENSION pg_walinspect; GRANT EXECUTE ON FUNCTION pg_get_wal_block_info(pg_lsn, pg_lsn, "
    "boolean) TO the role. Or GRANT pg_checkpoint TO the role, and set checkpoint: true for the table.",
)


def check_prerequisites(
    cursor: ext.cursor, server: Server, storage: Sequence[Storage], *, checkpoint: bool
) -> tuple[WalAccess, list[MissingPrerequisite]]:
    """Look for what the source offers, and for all that is missing there for maps of this table.

    Args:
        cursor: at the source.
        server: observed before.
        storage: the relations that hold the table's rows.
        checkpoint: whether one may be ordered, if the role may.
    """
    major = server.version // 10000
    if major < MIN_VERSION:
        reason = f"the source is PostgreSQL {major}, and WAL summaries come with {MIN_VERSION}"
        return WalAccess(None, False), [
            MissingPrerequisite(reason, f"Upgrade the source to PostgreSQL {MIN_VERSION} or newer.")
        ]
    cursor.execute(_SETUP, {"leaves": [leaf.oid for leaf in storage]})
    offered = fetch_one_as(cursor, _Offered)
    missing = []
    if server.lsn is None or server.timeline is None:
        missing.append(
            MissingPrerequisite(
                "the source does not tell its WAL position or its timeline",
                "Run xmin-assets doctor, which names the functions and what to grant.",
            )
        )
    if offered.wal_level == "minimal":
        missing.append(
            MissingPrerequisite("wal_level is minimal at the source", "Set wal_level = replica there, and restart it.")
        )
    if not offered.summarizes:
        missing.append(
            MissingPrerequisite(
                "summarize_wal is off at the source",
                "There: ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();",
            )
        )
    if not offered.may_read_summaries:
        missing.append(
            MissingPrerequisite(
                "the role may not read WAL summaries",
                "At the source, grant it EXECUTE on pg_available_wal_summaries(), pg_wal_summary_contents(bigint, "
                "pg_lsn, pg_lsn) and pg_get_wal_summarizer_state().",
            )
        )
    if offered.has_unlogged:
        missing.append(
            MissingPrerequisite(
                "the table is UNLOGGED, so no WAL tells of it", "ALTER TABLE ... SET LOGGED, if it may be so."
            )
        )
    inspector = offered.inspector
    if inspector is not None:
        cursor.execute(_INSPECTS, {"schema": inspector, "function": BLOCK_INFO})
        inspector = inspector if fetch_value(cursor, bool) else None
    # On a standby it would be a restartpoint, and summaries end where the primary's checkpoints do.
    return WalAccess(inspector, offered.may_checkpoint and checkpoint and not server.in_recovery), missing


def require_prerequisites(
    cursor: ext.cursor, server: Server, storage: Sequence[Storage], *, checkpoint: bool
) -> WalAccess:
    """Return what the source offers, if nothing is missing there.

    Raises:
        BlockMapUnavailable: something is missing.
    """
    access, missing = check_prerequisites(cursor, server, storage, checkpoint=checkpoint)
    if missing:
        raise BlockMapUnavailable(missing[0].reason)
    return access


def refused_because(error: BaseException) -> str:
    """Say that the source refuses one of the functions, and why."""
    return f"the source refuses to tell which blocks changed: {one_line(error)}"


@contextmanager
def savepoint(cursor: ext.cursor) -> Iterator[None]:
    """Let the transaction go on whatever is refused. No subtransaction is left, from which none can export."""
    cursor.execute("SAVEPOINT block_map")
    try:
        yield
    except psycopg2.Error as error:
        if error.pgcode is None:
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT block_map; RELEASE SAVEPOINT block_map")
        raise BlockMapUnavailable(refused_because(error)) from error
    except BlockMapUnavailable:
        cursor.execute("RELEASE SAVEPOINT block_map")
        raise
    cursor.execute("RELEASE SAVEPOINT block_map")


TURNED_OFF = MissingPrerequisite("wal_summaries is off", "Leave wal_summaries out of the table's configuration.")

CLOSED_PARTITIONS = MissingPrerequisite(
    "the role may not read the table's partitions under their own names", "Grant it SELECT on them, too."
)

UNLIKE_PARTITIONS = MissingPrerequisite(
    "where may name the table itself, or a partition has another expression for a virtual column",
    "Name columns in where without the table's name, and let all partitions have the table's expressions.",
)

REPEATED_KEYS = MissingPrerequisite(
    "no unique index guarantees its key, so the keys of all rows are compared",
    "Create a unique index over NOT NULL columns of the key.",
)

BLOCKS_OF_DELETED_ROWS = MissingPrerequisite(
    "deleted rows are looked for by their keys",
    "Set track_blocks: true for the table, which finds them by their blocks, or delete_detection: 1 hour, which looks "
    "for them less often.",
)
