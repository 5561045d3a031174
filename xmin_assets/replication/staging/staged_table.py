"""The staged table of a sync: its names, the comment that says which sync made it, and its lock."""

from __future__ import annotations

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import PlanOutdated, StaleExtract
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_value, fetch_value_or_none
from xmin_assets.postgres.server import observe_target_server
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.state.loads import forget_load, load_table_name
from xmin_assets.replication.state.migrations import SCHEMA

COMMENT_PREFIX = "xmin_assets staged, sync "

_COMMENT = """
SELECT pg_catalog.obj_description(
           pg_catalog.to_regclass(pg_catalog.format('xmin_assets.%%I', %(name)s)), 'pg_class') AS comment
"""


def staged_names(target: QualifiedName) -> tuple[str, str]:
    """Return the names of the staged table for a target table, and of the one for its keys."""
    name = f"staged_{target.digest}"
    return name, f"{name}_keys"


def drop_staged(cursor: ext.cursor, target: QualifiedName) -> None:
    """Drop what is staged for a target table, whichever sync has staged it, and what a load has filled.

    A merge that is not that of the load has overtaken it. The schema xmin_assets must be there, and up to date.
    """
    names = (sql.Identifier(SCHEMA, name) for name in (*staged_names(target), load_table_name(target)))
    cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.SQL(", ").join(names)))
    forget_load(cursor, target)


def mark_as_staged(cursor: ext.cursor, name: str, sync_id: str) -> None:
    """Say in its comment whose table this is; see `lock_own`."""
    comment = sql.Literal(COMMENT_PREFIX + sync_id)
    cursor.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(sql.Identifier(SCHEMA, name), comment))


def set_not_null(cursor: ext.cursor, name: str, snapshot: SourceSnapshot) -> None:
    """Let an empty staged table have its key's columns NOT NULL, where the source's are.

    A key that was found is NOT NULL at the source, and a primary key over such columns costs no scan.
    """
    selection = snapshot.target_selection
    if snapshot.config.key is None and selection.key and selection.unique_key:
        changes = (sql.SQL("ALTER COLUMN {} SET NOT NULL").format(sql.Identifier(column)) for column in selection.key)
        cursor.execute(sql.SQL("ALTER TABLE {} {}").format(sql.Identifier(SCHEMA, name), sql.SQL(", ").join(changes)))


def require_target(cursor: ext.cursor, snapshot: SourceSnapshot) -> None:
    """Make sure that this is the database which the sync was planned for.

    Raises:
        PlanOutdated: it is another one.
    """
    database = observe_target_server(cursor)
    if (database.system_identifier, database.database_oid) != snapshot.target:
        raise PlanOutdated(
            f"{snapshot.table}: the sync was planned for another target database than this one. Plan it again."
        )


def count_staged(cursor: ext.cursor, name: str) -> int:
    """Count the rows of a staged table."""
    cursor.execute(sql.SQL("SELECT count(*) AS rows FROM {staged}").format(staged=sql.Identifier(SCHEMA, name)))
    return fetch_value(cursor, int)


def lock_own(cursor: ext.cursor, name: str, snapshot: SourceSnapshot, mode: str) -> None:
    """Lock a staged table and make sure that it is the one that this sync made, until the transaction ends.

    Args:
        cursor: in a transaction.
        name: of the staged table.
        snapshot: of the sync.
        mode: a table lock mode of PostgreSQL.

    Raises:
        StaleExtract: it is gone or another sync's.
    """
    try:
        # The comment is read after the lock is held: the table can no longer become another sync's.
        cursor.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.Identifier(SCHEMA, name), sql.SQL(mode)))
        cursor.execute(_COMMENT, {"name": name})
        comment = fetch_value_or_none(cursor, str)
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
        comment = None  # gone
    if comment != COMMENT_PREFIX + snapshot.sync_id:
        raise StaleExtract(
            f"{snapshot.table}: another sync of this table has replaced or merged the staged rows of sync "
            f"{snapshot.sync_id}. Run the sync again."
        )
