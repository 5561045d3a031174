"""How much of the target is in what was staged from another source: a copy of something else is not to be overwritten.

Another cluster, timeline or database may have the same rows, after a failover, an upgrade or a dump and restore. Then
nearly none differs, though all have other ids. Where most differ, the address leads to something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import MassChange
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.merging.deletes import BREAKER_FROM
from xmin_assets.replication.merging.upsert import image_differs
from xmin_assets.replication.schema.metadata_columns import not_deleted
from xmin_assets.replication.state.migrations import SCHEMA


def check_mass_change(
    cursor: ext.cursor,
    table: TableConfig,
    selection: Selection,
    staged: str,
    rows: int,
    same: sql.Composable | None,
    had: Set[str],
    types: Mapping[str, str],
    replaced: str,
) -> None:
    """The breaker for a source that has taken another one's place.

    Args:
        cursor: in the merge transaction, before any row is written.
        table: the table's configuration.
        selection: what is copied.
        staged: name of the staged table, which has all rows of the source.
        rows: how many it has.
        same: the condition that a target row ``t`` and a staged row ``s`` have the same key; None to compare rows as
            they are, each as often as it is there.
        had: the columns that the target had before this sync, by the names that they have now: what is new in it says
            nothing.
        types: of the target's columns, by their names.
        replaced: which source by which, in words.

    Raises:
        MassChange: more than the allowed share of the target's rows would be others.
    """
    cursor.execute(sql.SQL("SELECT count(*) FROM {} WHERE {}").format(table.target_name.sql, not_deleted(selection)))
    (live,) = cursor.fetchone() or (0,)
    if live < BREAKER_FROM:
        return
    unchanged = _unchanged(cursor, table, selection, staged, same, had, types)
    if selection.deletes.keeps:
        # Rows that only the target has are kept, and may be many. What it can have in common is the smaller one.
        changed, of = (min(live, rows) or live) - unchanged, min(live, rows) or live
        found = f"of the source's {rows} rows, only {unchanged} are among the target's {live}"
    else:
        changed, of = live - unchanged, live
        found = f"the sync would change or delete {changed} of the target's {live} rows"
    if changed > table.max_change_share * of:
        raise MassChange(
            f"{table.label}: {replaced}. These are not the same rows: {found}, and the allowed share of rows that "
            f"change is {table.max_change_share:g}. No row was changed. If the source's address is wrong, mend it. If "
            "the rows are meant to be replaced, run xmin-assets sync --allow-mass-change, or set allow_mass_change in "
            "the run's config."
        )


def _unchanged(
    cursor: ext.cursor,
    table: TableConfig,
    selection: Selection,
    staged: str,
    same: sql.Composable | None,
    had: Set[str],
    types: Mapping[str, str],
) -> int:
    """Live rows of the target that are staged with the same values; their ids may differ."""
    compared = [column for column in selection.columns if column.name in had]
    names = [column.name for column in compared]
    others = [column.name for column in selection.columns if column.name not in selection.key]
    if not names or (others and not {*others} & had):
        return 0  # nothing is known of them but their keys
    source, target = sql.Identifier(SCHEMA, staged), table.target_name.sql
    if same is None or not {*selection.key} <= had:
        statement = sql.SQL(
            "SELECT coalesce(sum(least(t.n, s.n)), 0) FROM ({here}) AS t JOIN ({there}) AS s ON s.row = t.row"
        ).format(here=_texts(target, names, not_deleted(selection)), there=_texts(source, names, sql.SQL("true")))
    else:
        statement = sql.SQL(
            "SELECT count(*) FROM {target} AS t WHERE {live}"
            " AND EXISTS (SELECT FROM {source} AS s WHERE {same} AND NOT {differs})"
        ).format(
            target=target,
            live=not_deleted(selection, "t"),
            source=source,
            same=same,
            differs=image_differs(compared, types),
        )
    cursor.execute(statement)
    (found,) = cursor.fetchone() or (0,)
    return int(found)


def _texts(table: sql.Composable, names: list[str], condition: sql.Composable) -> sql.Composable:
    """Every text of a row, and how often it is there."""
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    return sql.SQL(
        'SELECT r.row, count(*) AS n FROM (SELECT ROW({columns})::text COLLATE pg_catalog."C" AS row FROM {table}'
        " WHERE {condition}) AS r GROUP BY r.row"
    ).format(columns=columns, table=table, condition=condition)
