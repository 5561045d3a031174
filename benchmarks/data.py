"""The tables that are copied, and the changes that are made to them between two syncs.

Every table has a key ``id``, an ``amount`` and a time ``updated_at`` that rises with every update, because other
programs need such a column. Rows are a function of their number, so every run has the same data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg2 import sql

KEY = "id"
CURSOR = "updated_at"

_FIRST = sql.SQL("timestamptz '2024-01-01 00:00:00+00'")


_CHANGES = {
    "update": "UPDATE {table} SET amount = amount + 1, updated_at = clock_timestamp() WHERE {rows}",
    "delete": "DELETE FROM {table} WHERE {rows}",
    "elsewhere": "SELECT pg_current_xact_id()",
}


@dataclass(frozen=True)
class Dataset:
    """Tables of the schema public, and the statements that make and fill them."""

    name: str
    rows: int
    """In all tables together."""
    bytes: int
    """About as many, in all tables together."""
    tables: tuple[str, ...]
    statements: tuple[sql.Composable, ...]


@dataclass(frozen=True)
class Change:
    """One row in so many is updated or deleted, all over the table: nearly every block has one at 1 %."""

    verb: str
    """``update``, ``delete``, or ``elsewhere``: the server gave out a transaction id, and the table stays as it is."""
    one_in: int = 1

    def statement(self, table: str, turn: int) -> sql.Composable:
        """Build the change of one table; another turn hits other rows."""
        return sql.SQL(_CHANGES[self.verb]).format(
            table=sql.Identifier("public", table),
            rows=sql.SQL("id % {} = {}").format(sql.Literal(self.one_in), sql.Literal(turn % self.one_in)),
        )


def orders(rows: int) -> Dataset:
    """Return one table with rows of about 130 bytes: 445 MB for 3 million."""
    fill = """
        INSERT INTO public.orders
        SELECT i,
               (i * 2654435761 % 500000)::integer,
               (ARRAY['new', 'paid', 'packed', 'shipped', 'returned'])[1 + i % 5],
               (i * 104729 % 10000000) / 100.0,
               md5(i::text) || md5((i * 7)::text) || repeat('.', (i % 13)::integer),
               {first} + i * interval '7 seconds',
               {first} + i * interval '1 second'
          FROM generate_series(1::bigint, {rows}) AS i
    """
    columns = """
        id bigint NOT NULL, customer integer NOT NULL, status text NOT NULL, amount numeric(12, 2) NOT NULL,
        note text, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL
    """
    return _one_table("orders", rows, 150, sql.SQL(columns), sql.SQL(fill).format(rows=sql.Literal(rows), first=_FIRST))


_WIDE: tuple[tuple[str, str], ...] = (
    ("integer", "(i * {n} % 1000003)::integer"),
    ("text", "'value ' || i * {n} % 10007"),
    ("numeric(14, 3)", "(i * {n} % 9999991) / 1000.0"),
    ("boolean", "(i + {n}) % 3 = 0"),
    ("timestamptz", "{first} + (i + {n}) * interval '61 seconds'"),
    ("double precision", "(i * {n} % 99991) / 7.0"),
    ("text", "CASE WHEN (i + {n}) % 4 <> 0 THEN 'x' || i + {n} END"),
)
"""Types of the wide table's columns, and what fills the column of a number from the row's number ``i``."""


def wide(rows: int) -> Dataset:
    """Return one table of 100 columns."""
    kinds = [(sql.Identifier(f"c{n}"), n, *_WIDE[n % len(_WIDE)]) for n in range(97)]
    columns: list[sql.Composable] = [
        sql.SQL("id bigint NOT NULL, amount numeric(12, 2) NOT NULL, updated_at timestamptz NOT NULL")
    ]
    columns += [sql.SQL("{} {}").format(name, sql.SQL(kind)) for name, _, kind, _ in kinds]
    values = [sql.SQL("i, i % 1000, {} + i * interval '1 second'").format(_FIRST)]
    values += [sql.SQL(value).format(n=sql.Literal(n), first=_FIRST) for _, n, _, value in kinds]
    fill = sql.SQL("INSERT INTO public.wide SELECT {} FROM generate_series(1::bigint, {}) AS i").format(
        sql.SQL(", ").join(values), sql.Literal(rows)
    )
    return _one_table("wide", rows, 1000, sql.SQL(", ").join(columns), fill)


def toast(rows: int) -> Dataset:
    """Return one table with 8 to 20 kB of text in each row, digests in base64, which PostgreSQL cannot compress."""
    fill = """
        INSERT INTO public.documents
        SELECT i,
               i % 1000,
               {first} + i * interval '1 second',
               (SELECT string_agg(translate(encode(sha512((i || ' ' || n)::bytea), 'base64'), E'\\n', ''), '')
                  FROM generate_series(1, 95 + (i % 140)::integer) AS n)
          FROM generate_series(1::bigint, {rows}) AS i
    """
    columns = sql.SQL(
        "id bigint NOT NULL, amount numeric(12, 2) NOT NULL, updated_at timestamptz NOT NULL, body text NOT NULL"
    )
    return _one_table("documents", rows, 15_000, columns, sql.SQL(fill).format(rows=sql.Literal(rows), first=_FIRST))


def many(tables: int, rows: int) -> Dataset:
    """Build many tables with so many rows each."""
    columns = sql.SQL(
        "id bigint NOT NULL, amount numeric(12, 2) NOT NULL, updated_at timestamptz NOT NULL, name text NOT NULL"
    )
    names = tuple(f"small_{number:03}" for number in range(tables))
    statements: list[sql.Composable] = []
    for name in names:
        fill = sql.SQL(
            "INSERT INTO {} SELECT i, i % 1000, {} + i * interval '1 second', md5(i::text)"
            " FROM generate_series(1::bigint, {}) AS i"
        ).format(sql.Identifier("public", name), _FIRST, sql.Literal(rows))
        statements += _statements(name, columns, fill)
    return Dataset("many", tables * rows, tables * rows * 100, names, tuple(statements))


def _one_table(name: str, rows: int, width: int, columns: sql.Composable, fill: sql.Composable) -> Dataset:
    return Dataset(name, rows, rows * width, (name,), _statements(name, columns, fill))


def _statements(name: str, columns: sql.Composable, fill: sql.Composable) -> tuple[sql.Composable, ...]:
    table = sql.Identifier("public", name)
    return (
        sql.SQL("CREATE TABLE {} ({})").format(table, columns),
        fill,
        sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table, sql.Identifier(KEY)),
    )


Sized = Callable[[int], Dataset]
"""Makes a dataset whose size follows from the number of orders that was asked for: about as many bytes."""

SIZED: dict[str, Sized] = {
    "orders": orders,
    "wide": lambda rows: wide(max(1, rows // 6)),
    "toast": lambda rows: toast(max(1, rows // 90)),
    "many": lambda rows: many(100, max(1, rows // 3000)),
    "small": lambda _: many(1, 1000),
}
