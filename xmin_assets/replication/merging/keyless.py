"""The target's contents replaced as a whole, where no key says which row of the target is which of the source."""

from __future__ import annotations

from psycopg2 import sql

from xmin_assets.postgres.rows import fetch_value
from xmin_assets.replication.merging.deletes import check_mass_delete
from xmin_assets.replication.merging.row_merge import RowMerge, Written


def replace_contents(rows: RowMerge, *, allow_mass_delete: bool) -> Written:
    """Make the target's rows the staged ones, as often as each is there; return how many were written.

    Only rows that differ are written: equal rows are numbered on both sides, and what has no partner of its number is
    deleted or inserted. Readers see the one contents or the other, because it is no TRUNCATE, which an older snapshot
    would see as an empty table (https://www.postgresql.org/docs/current/mvcc-caveats.html).

    Args:
        rows: what is merged.
        allow_mass_delete: lift the limit on rows that go and are not replaced.

    Raises:
        MassDelete: the target would lose more than the allowed share of its rows.
    """
    cursor = rows.cursor
    names = rows.selection.staged_columns
    numbered = {"target_rows": _numbered(rows.target, names), "staged_rows": _numbered(rows.staged, names)}
    cursor.execute(
        sql.SQL("""
            WITH target_rows AS ({target_rows}), staged_rows AS ({staged_rows})
            DELETE FROM {target} AS t
             USING target_rows
             WHERE t.tableoid = target_rows.relation
               AND t.ctid = target_rows.place
               AND NOT EXISTS (
                       SELECT FROM staged_rows
                        WHERE staged_rows.row = target_rows.row AND staged_rows.number = target_rows.number)
        """).format(target=rows.target, **numbered)
    )
    deleted = cursor.rowcount
    cursor.execute(
        sql.SQL("""
            WITH target_rows AS ({target_rows}), staged_rows AS ({staged_rows})
            INSERT INTO {target} ({columns})
            SELECT {values}
              FROM {staged} AS s
              JOIN staged_rows ON s.tableoid = staged_rows.relation AND s.ctid = staged_rows.place
             WHERE NOT EXISTS (
                       SELECT FROM target_rows
                        WHERE target_rows.row = staged_rows.row AND target_rows.number = staged_rows.number)
        """).format(
            target=rows.target,
            staged=rows.staged,
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
            values=sql.SQL(", ").join(sql.Identifier("s", name) for name in names),
            **numbered,
        )
    )
    inserted = cursor.rowcount
    if deleted > inserted and not allow_mass_delete:
        cursor.execute(sql.SQL("SELECT count(*) AS rows FROM {target}").format(target=rows.target))
        left = fetch_value(cursor, int)
        check_mass_delete(rows.table, deleted - inserted, left + deleted - inserted)
    return Written(inserted=inserted, deleted=deleted)


def count_unpaired(rows: RowMerge) -> int:
    """Count the rows of both sides that `replace_contents` should have made equal, and has not."""
    names = rows.selection.staged_columns
    rows.cursor.execute(
        sql.SQL("""
            SELECT count(*) AS rows
              FROM ({target_rows}) AS t
              FULL JOIN ({staged_rows}) AS s ON s.row = t.row AND s.number = t.number
             WHERE s.row IS NULL OR t.row IS NULL
        """).format(target_rows=_numbered(rows.target, names), staged_rows=_numbered(rows.staged, names))
    )
    return fetch_value(rows.cursor, int)


def _numbered(table: sql.Composable, names: list[str]) -> sql.Composable:
    """Build the query of every row's place and text, and its number among those of the same text."""
    # The text and not the row itself: json has no order, and by "=" 1.0 and 1.00 would be the same. A record's text, as
    # a cast of each value to text may be somebody's own, and make one text of two values.
    return sql.SQL("""
        SELECT relation, place, row, row_number() OVER (PARTITION BY row) AS number
          FROM (SELECT tableoid AS relation, ctid AS place,
                       ROW({columns})::text COLLATE pg_catalog."C" AS row
                  FROM {table}) AS r
    """).format(columns=sql.SQL(", ").join(map(sql.Identifier, names)), table=table)
