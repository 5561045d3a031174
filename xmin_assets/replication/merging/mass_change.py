"""How much of the target is in what was staged from another source: a copy of something else is not to be overwritten.

Another cluster, timeline or database may have the same rows, after a failover, an upgrade or a dump and restore. Then
nearly none differs, though all have other ids. Where most differ, the address leads to something else.
"""

from __future__ import annotations

from collections.abc import Set

from psycopg2 import sql

from xmin_assets.errors import MassChange
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.replication.merging.deletes import BREAKER_FROM
from xmin_assets.replication.merging.row_merge import RowMerge
from xmin_assets.replication.merging.upsert import image_differs
from xmin_assets.replication.schema.metadata_columns import not_deleted


def check_mass_change(rows: RowMerge, *, staged_rows: int, columns_before: Set[str], another_source: str) -> None:
    """Refuse to change more than the allowed share of a target's rows for a source that took another one's place.

    Args:
        rows: what is merged; no row was written yet, and all rows of the source are staged.
        staged_rows: how many they are.
        columns_before: the columns that the target had before this sync, by the names that they have now: what is new
            in it says nothing.
        another_source: which source has taken the place of which, in words.

    Raises:
        MassChange: more than that would change.
    """
    table, selection, cursor = rows.table, rows.selection, rows.cursor
    cursor.execute(
        sql.SQL("SELECT count(*) AS rows FROM {target} WHERE {not_deleted}").format(
            target=rows.target, not_deleted=not_deleted(selection)
        )
    )
    live = fetch_value(cursor, int)
    if live < BREAKER_FROM:
        return
    unchanged = _unchanged_rows(rows, columns_before)
    if selection.deletes.keeps:
        # Rows that only the target has are kept, and may be many. What it can have in common is the smaller one.
        common = min(live, staged_rows) or live
        changed = common - unchanged
        found = f"of the source's {staged_rows} rows, only {unchanged} are among the target's {live}"
    else:
        common = live
        changed = common - unchanged
        found = f"the sync would change or delete {changed} of the target's {live} rows"
    if changed > table.max_change_share * common:
        raise MassChange(
            f"{table.label}: {another_source}. These are not the same rows: {found}, and the allowed share of rows "
            f"that change is {table.max_change_share:g}. No row was changed. If the source's address is wrong, mend "
            "it. If the rows are meant to be replaced, run xmin-assets sync --allow-mass-change, or set "
            "allow_mass_change in the run's config."
        )


def _unchanged_rows(rows: RowMerge, columns_before: Set[str]) -> int:
    """Count the live rows of the target that are staged with the same values; their ids may differ."""
    selection = rows.selection
    compared = [column for column in selection.columns if column.name in columns_before]
    names = [column.name for column in compared]
    others = {column.name for column in selection.columns} - {*selection.key}
    if not names or (others and not others & columns_before):
        return 0  # nothing is known of them but their keys
    if rows.same_key is None or not {*selection.key} <= columns_before:
        statement = sql.SQL("""
            SELECT coalesce(sum(least(t.number, s.number)), 0) AS unchanged
              FROM ({target_rows}) AS t
              JOIN ({staged_rows}) AS s ON s.row = t.row
        """).format(
            target_rows=_rows_as_text(rows.target, names, not_deleted(selection)),
            staged_rows=_rows_as_text(rows.staged, names, sql.SQL("true")),
        )
    else:
        statement = sql.SQL("""
            SELECT count(*) AS unchanged
              FROM {target} AS t
             WHERE {not_deleted}
               AND EXISTS (SELECT FROM {staged} AS s WHERE {matched} AND NOT {differs})
        """).format(
            target=rows.target,
            staged=rows.staged,
            not_deleted=not_deleted(selection, "t"),
            matched=rows.matched,
            differs=image_differs(compared, rows.types),
        )
    rows.cursor.execute(statement)
    return fetch_value(rows.cursor, int)


def _rows_as_text(table: sql.Composable, names: list[str], condition: sql.Composable) -> sql.Composable:
    """Build the query of every text of a row, and how often it is there."""
    return sql.SQL("""
        SELECT r.row, count(*) AS number
          FROM (SELECT ROW({columns})::text COLLATE pg_catalog."C" AS row FROM {table} WHERE {condition}) AS r
         GROUP BY r.row
    """).format(columns=sql.SQL(", ").join(map(sql.Identifier, names)), table=table, condition=condition)
