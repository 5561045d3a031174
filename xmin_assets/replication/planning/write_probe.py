"""Whether the role may write a target as a merge does, asked without writing a row.

EXPLAIN checks rights, and whether a table may be updated at all: one that a publication publishes needs a replica
identity (CheckCmdReplicaIdentity() in src/backend/executor/execReplication.c).
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import errorcodes, sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import UnsupportedTable
from xmin_assets.postgres.catalog import Attribute
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.replication.manifests.state import State

_REFUSALS = {
    errorcodes.INSUFFICIENT_PRIVILEGE: "Run there: GRANT SELECT, INSERT, UPDATE, DELETE ON {target} TO the role.",
    errorcodes.OBJECT_NOT_IN_PREREQUISITE_STATE: "Run there: ALTER TABLE {target} REPLICA IDENTITY FULL, and the same "
    "for its partitions, or take the table out of the publication.",
    errorcodes.INVALID_COLUMN_REFERENCE: "Let the publication have all columns of the replica identity, or take "
    "{target} out of it.",
}


# Our sessions have row_security = off: an error beats a silently filtered table.
_ROW_LEVEL_SECURITY = (
    "Run there: ALTER TABLE {target} NO FORCE ROW LEVEL SECURITY, if the role owns the table; else let its owner sync "
    "it, or a role that has BYPASSRLS."
)


def require_writable(cursor: ext.cursor, table: TableConfig, columns: Sequence[Attribute], state: State | None) -> None:
    """Make sure that the rows of a target table can be merged.

    Args:
        cursor: in a transaction at the target, which may be one that only reads.
        table: the table's configuration.
        columns: of the target table.
        state: of the last sync; None if it was not made by this project. What others have added is not written.

    Raises:
        UnsupportedTable: they cannot, for a reason that a person must remove.
    """
    copied = {column.name for column in state.selection.columns} if state else None
    names = [
        column.name
        for column in columns
        if not column.generated and column.identity != "a" and (copied is None or column.name in copied)
    ]
    if not names:
        return
    target = table.target_name
    try:
        cursor.execute(
            sql.SQL("""
                EXPLAIN UPDATE {target} AS t SET {sets} WHERE ROW({read}) IS NULL;
                EXPLAIN INSERT INTO {target} ({columns}) VALUES ({nulls});
                {delete}
            """).format(
                target=target.sql,
                read=sql.SQL(", ").join(sql.Identifier("t", name) for name in names),
                sets=sql.SQL(", ").join(sql.SQL("{0} = t.{0}").format(sql.Identifier(name)) for name in names),
                columns=sql.SQL(", ").join(map(sql.Identifier, names)),
                nulls=sql.SQL(", ").join([sql.SQL("NULL")] * len(names)),
                delete=sql.SQL("EXPLAIN DELETE FROM {} AS t WHERE t.{} IS NULL").format(
                    target.sql, sql.Identifier(names[0])
                )
                if table.deletes.removes
                else sql.SQL("SELECT"),
            )
        )
    except psycopg2.Error as error:
        way_out = _REFUSALS.get(error.pgcode or "")
        if error.diag.source_function == "check_enable_rls":
            way_out = _ROW_LEVEL_SECURITY
        if way_out is None:
            raise
        raise UnsupportedTable(
            f"{table.label}: the target cannot be written as a sync does: {one_line(error)} Nothing was read. "
            f"{way_out.format(target=target)}"
        ) from error
