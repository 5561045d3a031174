"""The tables of a history: kinds of storage that all have the same columns, so that every step goes with every kind."""

from __future__ import annotations

from typing import Any

VIRTUAL_FROM = 18

KINDS = ("plain", "wide", "partitioned", "loose", "unlogged", "inherited", "diamond")
"""loose: without a unique index; the configuration names the key."""

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad');
CREATE TYPE size AS ENUM ('s', 'm', 'l');
CREATE TYPE pair AS (a int, b text, c int);
CREATE DOMAIN tag AS text CHECK (length(VALUE) < 30);
CREATE DOMAIN feeling AS mood;
"""


def create(kind: str, name: str, rows: int, citext: bool, version: int) -> list[str]:
    """Statements that make a table and fill it."""
    return [*_ddl(kind, name, citext, version), fill(kind, name, rows)]


def leaf_names(kind: str, name: str) -> list[str]:
    """The tables that rows are inserted into, where the named one is not the only one; `part` is their place here."""
    return [name, f"{name}_b", f"{name}_c", f"{name}_d"] if kind in ("inherited", "diamond") else [name]


def _ddl(kind: str, name: str, citext: bool, version: int) -> list[str]:
    filler = ", filler text DEFAULT repeat('x', 800)" if kind == "wide" else ""
    folded = ", ci citext DEFAULT 'Ab'" if citext else ""
    virtual = ", vn int GENERATED ALWAYS AS (n * 2) VIRTUAL" if version >= VIRTUAL_FROM else ""
    columns = (
        "id int NOT NULL, part int NOT NULL, v text, b1 boolean, b2 boolean, n int, m int, x numeric, e mood, f mood,"
        f" z size, es mood[], c pair, d tag, g feeling, w char(3){virtual}{folded}{filler}"
    )
    key = "" if kind == "loose" else ", PRIMARY KEY (id, part)"
    if kind == "partitioned":
        return [
            f"CREATE TABLE {name} ({columns}{key}) PARTITION BY LIST (part)",
            f"CREATE TABLE {name}_p0 PARTITION OF {name} FOR VALUES IN (0)",
            f"CREATE TABLE {name}_p1 PARTITION OF {name} FOR VALUES IN (1)",
            f"CREATE TABLE {name}_rest PARTITION OF {name} FOR VALUES IN (2, 3, NULL) PARTITION BY RANGE (id)",
            f"CREATE TABLE {name}_low PARTITION OF {name}_rest FOR VALUES FROM (MINVALUE) TO (30)",
            f"CREATE TABLE {name}_high PARTITION OF {name}_rest FOR VALUES FROM (30) TO (MAXVALUE)",
        ]
    made = [f"CREATE {'UNLOGGED ' if kind == 'unlogged' else ''}TABLE {name} ({columns}{key})"]
    if kind == "wide":
        made += [f"ALTER TABLE {name} SET (fillfactor = 10)", f"ALTER TABLE {name} ALTER filler SET STORAGE PLAIN"]
    if kind in ("inherited", "diamond"):
        last = f"{name}_b, {name}_c" if kind == "diamond" else f"{name}_b"
        for child, parents in (("b", name), ("c", name), ("d", last)):
            made.append(f"CREATE TABLE {name}_{child} (PRIMARY KEY (id, part)) INHERITS ({parents})")
    return made


def fill(kind: str, name: str, rows: int) -> str:
    """A statement that fills a new table."""
    leaves = leaf_names(kind, name)
    values = (
        "'first ' || i, i % 2 = 0, i % 3 = 0, i, 100 - i, i::numeric / 2, (enum_range(NULL::mood))[1 + i % 3],"
        " (enum_range(NULL::mood))[1 + (i + 1) % 3], (enum_range(NULL::size))[1 + i % 3],"
        " ARRAY[(enum_range(NULL::mood))[1 + i % 3]], ROW(i, 'b' || i, -i)::pair, 'tag ' || i,"
        " (enum_range(NULL::mood))[1 + i % 3], 'w'"
    )
    return "; ".join(
        f"INSERT INTO {leaf} (id, part, v, b1, b2, n, m, x, e, f, z, es, c, d, g, w) SELECT i,"
        f" {place if len(leaves) > 1 else 'i % 4'}, {values} FROM generate_series(1, {rows}) i"
        + (f" WHERE i % {len(leaves)} = {place}" if len(leaves) > 1 else "")
        for place, leaf in enumerate(leaves)
    )


WHERES: tuple[Any, ...] = ("boolean", "integer", "text", "numeric", "mood", "citext", "tag")
"""Types of columns that a condition may be made of."""


def condition(column: str, of_type: str, number: int) -> str | None:
    """A condition on a column of this type; None if there is none."""
    quoted = '"' + column.replace('"', '""') + '"'
    made = {
        "boolean": [quoted, f"NOT {quoted}"],
        "integer": [f"{quoted} % 3 <> {number % 3}", f"{quoted} > {number % 20}"],
        "bigint": [f"{quoted} % 3 <> {number % 3}"],
        "numeric": [f"{quoted} > {number % 20}"],
        "text": [f"{quoted} > 'b'", f"{quoted} LIKE '%s%'"],
        "tag": [f"{quoted} < 'tag 3'"],
        "mood": [f"{quoted}::text <> 'ok'"],
        "citext": [f"{quoted} = 'AB'", f"{quoted} <> 'aB'"],
    }.get(of_type)
    return made[number % len(made)] if made else None
