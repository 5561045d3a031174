"""The target's contents replaced as a whole, where no key says which row of the target is which of the source."""

from __future__ import annotations

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.merging.deletes import check_mass_delete
from xmin_assets.replication.state.migrations import SCHEMA


def replace_contents(
    cursor: ext.cursor, table: TableConfig, staged: str, selection: Selection, allow_mass_delete: bool
) -> tuple[int, int]:
    """Make the target's rows the staged ones, as often as each is there; how many were inserted and how many deleted.

    Only rows that differ are written: equal rows are numbered on both sides, and what has no partner of its number is
    deleted or inserted. Readers see the one contents or the other, because it is no TRUNCATE, which an older snapshot
    would see as an empty table (https://www.postgresql.org/docs/current/mvcc-caveats.html).

    Args:
        cursor: in the merge transaction; the target is locked against other writers.
        table: the table's configuration.
        staged: name of the staged table.
        selection: what is copied.
        allow_mass_delete: lift the limit on rows that go and are not replaced.

    Raises:
        MassDelete: the target would lose more than the allowed share of its rows.
    """
    source, target = sql.Identifier(SCHEMA, staged), table.target_name.sql
    names = selection.staged_columns
    cursor.execute(
        sql.SQL(
            "WITH here AS ({here}), there AS ({there})"
            " DELETE FROM {target} AS t USING here WHERE t.tableoid = here.relation AND t.ctid = here.place"
            " AND NOT EXISTS (SELECT FROM there WHERE there.row = here.row AND there.number = here.number)"
        ).format(here=_numbered(target, names), there=_numbered(source, names), target=target)
    )
    deleted = cursor.rowcount
    cursor.execute(
        sql.SQL(
            "WITH here AS ({here}), there AS ({there})"
            " INSERT INTO {target} ({columns}) SELECT {values} FROM {source} AS s"
            " JOIN there ON s.tableoid = there.relation AND s.ctid = there.place"
            " WHERE NOT EXISTS (SELECT FROM here WHERE here.row = there.row AND here.number = there.number)"
        ).format(
            here=_numbered(target, names),
            there=_numbered(source, names),
            target=target,
            source=source,
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
            values=sql.SQL(", ").join(sql.Identifier("s", name) for name in names),
        )
    )
    inserted = cursor.rowcount
    if deleted > inserted and not allow_mass_delete:
        cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(target))
        (rows,) = cursor.fetchone() or (0,)
        check_mass_delete(table, deleted - inserted, rows + deleted - inserted)
    return inserted, deleted


def _numbered(table: sql.Composable, names: list[str]) -> sql.Composable:
    """Every row's place and text, and its number among those of the same text."""
    # The text and not the row itself: json has no order, and by "=" 1.0 and 1.00 would be the same. A record's text, as
    # a cast of each value to text may be somebody's own, and make one text of two values.
    row = sql.SQL(", ").join(map(sql.Identifier, names))
    return sql.SQL(
        "SELECT relation, place, row, row_number() OVER (PARTITION BY row) AS number FROM ("
        ' SELECT tableoid AS relation, ctid AS place, ROW({row})::text COLLATE pg_catalog."C" AS row FROM {table}) AS r'
    ).format(row=row, table=table)
