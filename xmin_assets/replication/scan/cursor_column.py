"""Finding changed rows by a column that rises whenever a row changes, where xmin is not wanted.

What such a column cannot tell is documented in docs/correctness.md: an update that keeps it, and one that is committed
later than the lookback allows for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_as, fetch_one_as, fetch_value
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.table import Column, Selection
from xmin_assets.replication.scan.checksum import printed

_INTEGERS = ("smallint", "integer", "bigint")

_ENDLESS = ["infinity", "-infinity", "Infinity", "-Infinity", "NaN"]
"""Values above all others, in the text of times and of numbers: as the highest seen they would hide every change to
come. To pass over a value only means that more is read."""

# With an empty search_path ">=" would compare an extension's type as what it casts to. Strategy 4 of a btree operator
# family is its own (https://www.postgresql.org/docs/current/xindex.html).
_AT_LEAST = """
SELECT n.nspname::text AS schema, o.oprname::text AS name
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_opclass c ON c.opcintype = coalesce(nullif(t.typbasetype, 0), t.oid) AND c.opcdefault
  JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
  JOIN pg_catalog.pg_amop a ON a.amopfamily = c.opcfamily AND a.amopstrategy = 4
       AND a.amoplefttype = c.opcintype AND a.amoprighttype = c.opcintype
  JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr
  JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
 WHERE t.oid = %(type)s::regtype
"""


class _Operator(NamedTuple):
    """An operator of the source."""

    schema: str
    name: str


class SeenCursors(NamedTuple):
    """The cursors of the rows that an extract reads."""

    highest: str | None
    """As text; None if no row has one."""
    nulls: int
    """Rows that have none: they are read by every sync."""


NO_CURSORS = SeenCursors(None, 0)
"""Where rows are not found by a cursor."""


def condition(cursor: ext.cursor, table: TableConfig, plan: Plan, selection: Selection) -> sql.Composable | None:
    """Build the condition that a row may have changed since the last sync; None if all rows are read.

    A row without a cursor may always have. The bound itself is included: several rows may have it, and some of them
    may have been committed after the last sync.

    Args:
        cursor: in a transaction at the source.
        table: the table's configuration, for its lookback.
        plan: has the highest cursor seen.
        selection: as the source has it.
    """
    if plan.cursor_from is None:
        return None
    column = _column(selection)
    cursor.execute(_AT_LEAST, {"type": column.type})
    # A type without a btree operator class of its own is compared as what it casts to.
    operator = next(iter(fetch_as(cursor, _Operator)), _Operator("pg_catalog", ">="))
    return sql.SQL("({name} OPERATOR({schema}.{operator}) {bound} OR {name} IS NULL)").format(
        name=sql.Identifier(column.name),
        schema=sql.Identifier(operator.schema),
        operator=sql.SQL(operator.name),
        bound=_bound(cursor, column, plan.cursor_from, table.cursor_lookback),
    )


def seen_cursors(
    cursor: ext.cursor, table: QualifiedName, selection: Selection, rows: sql.Composable | None
) -> SeenCursors:
    """Find the highest cursor among the rows to be read, and count those that have none.

    Args:
        cursor: in the transaction that reads them.
        table: the source table.
        selection: as the source has it.
        rows: the condition on the rows to be read; None for all.
    """
    column = _column(selection)
    # Ordered by the column and not by its text, which the first select's result would be called, too.
    cursor.execute(
        sql.SQL("""
            SELECT (SELECT {seen}
                      FROM (SELECT {name} AS seen
                              FROM {table}
                             WHERE {name} IS NOT NULL AND {text} <> ALL ({endless}) AND {rows}
                             ORDER BY {name} DESC
                             LIMIT 1) AS s) AS highest,
                   (SELECT count(*) FROM {table} WHERE {name} IS NULL AND {rows}) AS nulls
        """).format(
            seen=printed(sql.Identifier("seen")),
            text=printed(sql.Identifier(column.name)),
            name=sql.Identifier(column.name),
            table=table.sql,
            endless=sql.Literal(_ENDLESS),
            rows=rows or sql.SQL("true"),
        )
    )
    return fetch_one_as(cursor, SeenCursors)


def _column(selection: Selection) -> Column:
    return next(column for column in selection.columns if column.name == selection.cursor)


def _bound(cursor: ext.cursor, column: Column, highest: str, lookback: str | int | float | None) -> sql.Composable:
    kind = sql.SQL(column.type)
    if lookback is None:
        return sql.SQL("{}::{}").format(sql.Literal(highest), kind)
    if column.type in _INTEGERS:
        # Kept to integers, so that an index over the column can be used.
        return sql.SQL("{}::int8 - {}::int8").format(sql.Literal(highest), sql.Literal(math.ceil(float(lookback))))
    cursor.execute(
        "SELECT typcategory::text AS category FROM pg_catalog.pg_type WHERE oid = %(type)s::regtype",
        {"type": column.type},
    )
    if fetch_value(cursor, str) == "N":
        return sql.SQL("{}::numeric - {}::numeric").format(sql.Literal(highest), sql.Literal(str(lookback)))
    interval = sql.SQL("{}::interval" if isinstance(lookback, str) else "pg_catalog.make_interval(secs => {})")
    # A domain may have an operator of its own in the schema of the table.
    earlier = sql.SQL("({}::{} OPERATOR(pg_catalog.-) {})")
    return earlier.format(sql.Literal(highest), kind, interval.format(sql.Literal(lookback)))
