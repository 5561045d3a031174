"""The key of a table that was loaded, which proves that it identifies the rows."""

from __future__ import annotations

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import KeyInvalid
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.spool.csv_records import format_key

INDEX_MEMORY = 256 << 20
"""Memory to sort a key by. With the server's default, 64 MB, more than a million rows are sorted on disk."""


def prove_key(
    cursor: ext.cursor,
    snapshot: SourceSnapshot,
    table: sql.Composable,
    key: tuple[str, ...],
    *,
    with_others: bool = True,
) -> None:
    """Give a table of the schema xmin_assets its primary key, which proves that the rows have one.

    Args:
        cursor: in a transaction of the target.
        snapshot: of the sync.
        table: the staged table, that of its keys, or a load's.
        key: the columns.
        with_others: whether the table has other columns, too.

    Raises:
        KeyInvalid: the key repeats or is NULL.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, key))
    cursor.execute("SAVEPOINT key")
    try:
        cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table, columns))
    except (psycopg2.errors.UniqueViolation, psycopg2.errors.NotNullViolation) as error:
        example = one_line(error)
        if isinstance(error, psycopg2.errors.NotNullViolation):
            cursor.execute("ROLLBACK TO SAVEPOINT key")
            example = _null_key(cursor, snapshot.target_selection, table, with_others)
        # The source's values may differ, and be the same once they are what the configuration makes of them.
        overridden = [c.name for c in snapshot.target_selection.key_columns if c.override]
        otherwise = f", or take {', '.join(overridden)} out of type_overrides" if overridden else ""
        raise KeyInvalid(
            f"{snapshot.table}: the key ({', '.join(key)}) does not identify its rows. {example} Name "
            f"another key, or mend the rows at the source{otherwise}."
        ) from error


def _null_key(cursor: ext.cursor, selection: Selection, table: sql.Composable, with_others: bool) -> str:
    """Return a row with a NULL in its key, known by what else it has, if the table has that."""
    others = [column for column in selection.columns if with_others and column.name not in selection.key]
    shown = (*selection.key_columns, *others[:3])
    texts = (sql.SQL("left({column}::text, 60)").format(column=sql.Identifier(c.name)) for c in shown)
    is_null = (sql.SQL("{column} IS NULL").format(column=sql.Identifier(name)) for name in selection.key)
    cursor.execute(
        sql.SQL("""
            SELECT ARRAY[{texts}] AS texts
              FROM {staged}
             WHERE {is_null}
             LIMIT 1
        """).format(texts=sql.SQL(", ").join(texts), staged=table, is_null=sql.SQL(" OR ").join(is_null))
    )
    values = ["NULL" if value is None else value for value in fetch_value(cursor, list)]
    return f"It is NULL in the row with {format_key(shown, values)}."
