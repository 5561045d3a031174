"""What a session can do, as statements: chosen from what is there when the step is played, by a number in the step.

So a step means something whatever became of the steps before it, and a history can be shortened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from xmin_assets_tests.adversary.oracle import quoted
from xmin_assets_tests.adversary.tables import create, leaf_names

Fetch = Callable[[str], list[tuple[Any, ...]]]

FIXED = ("id", "part", "filler")
"""Columns that are never altered: the key, and what makes a row as large as a block."""

MANY = """
DO $$
BEGIN
    FOR i IN 1..70 LOOP
        BEGIN
            UPDATE {table} SET part = part WHERE id % 70 = i;
            IF i % 3 = {third} THEN
                RAISE EXCEPTION 'back';
            END IF;
        EXCEPTION WHEN raise_exception THEN
            NULL;
        END;
    END LOOP;
END $$
"""


@dataclass(frozen=True)
class Column:
    """A column as the acting session sees it."""

    name: str
    type: str
    base: str
    """The type, or a domain's."""
    kind: str
    """pg_type.typtype of the base: e for enums, c for composites."""
    generated: str
    """pg_attribute.attgenerated"""

    @property
    def quoted(self) -> str:
        return quoted(self.name)


@dataclass(frozen=True)
class Scene:
    """A table, as a session sees it."""

    fetch: Fetch
    table: str
    kind: str
    rows: int
    citext: bool
    version: int
    rnd: Random
    to: str | None = None
    """What the step asks for, where chance does not decide."""
    among: tuple[str, ...] = ()
    """The columns that it is about, if not all."""

    def columns(self) -> list[Column]:
        """The columns that may be altered."""
        rows = self.fetch(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), format_type(b.oid, NULL), b.typtype, attgenerated"
            "  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid"
            "  JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END"
            f" WHERE a.attrelid = to_regclass('{self.table}') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        )
        found = [Column(*row) for row in rows if row[0] not in FIXED]
        return [column for column in found if column.name in self.among] or found

    def leaves(self) -> list[str]:
        """All tables of this one's family that have rows of their own, those that were taken out included."""
        rows = self.fetch(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            f" AND (relname = '{self.table}' OR relname LIKE '{self.table}\\_%') ORDER BY 1"
        )
        return [name for (name,) in rows]

    def writable(self) -> str:
        """The table, or sometimes one of its family."""
        return self.rnd.choice(self.leaves() or [self.table]) if self.rnd.random() < 0.2 else self.table

    def value(self, column: Column) -> str:
        """A value for a column, as an expression."""
        rnd, number = self.rnd, self.rnd.randrange(50)
        if rnd.random() < 0.1:
            return "NULL"
        if column.kind == "e":
            labels = f"enum_range(NULL::{column.base})"
            return f"({labels})[1 + {number} % array_length({labels}, 1)]"
        if column.base.endswith("[]"):
            labels = f"enum_range(NULL::{column.base[:-2]})"
            return f"({labels})[1:{1 + number % 3}]"
        if column.kind == "c":
            fields = self.fetch(
                f"SELECT format_type(atttypid, NULL) FROM pg_attribute"
                f" WHERE attrelid = (SELECT typrelid FROM pg_type WHERE oid = '{column.base}'::regtype)"
                " AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
            )
            texts = [f"'f{number}'" if kind == "text" else str(number) for (kind,) in fields]
            return f"ROW({', '.join(texts)})::{column.base}"
        if column.base == "boolean":
            return "true" if number % 2 else "false"
        if column.base in ("integer", "bigint", "smallint"):
            return str(number)
        if column.base == "numeric":
            return rnd.choice([f"{number}", f"{number}.0", f"{number}.50", "'NaN'", "0.00"])
        if column.base == "character":
            return f"'{'abc'[number % 3]}'"
        return rnd.choice([f"'new {number}'", "''", f"'a\"b,{number}'", f"E'x\\n\\t{number}'", "'Ab'", "'é\\'"])

    def some(self) -> str:
        """A condition that a few rows, or many, fulfil."""
        rnd = self.rnd
        return rnd.choice(
            [
                f"id = {rnd.randrange(1, self.rows + 5)}",
                f"id % 7 = {rnd.randrange(7)}",
                f"id % 3 = {rnd.randrange(3)}",
                f"part = {rnd.randrange(4)}",
                f"id BETWEEN {(low := rnd.randrange(self.rows))} AND {low + 4}",
                "true" if rnd.random() < 0.2 else f"id % 5 = {rnd.randrange(5)}",
            ]
        )

    def alterable(self, *, generated: bool = False) -> list[Column]:
        return [column for column in self.columns() if bool(column.generated) == generated]


Made = list[str]


def insert(scene: Scene) -> Made:
    rnd = scene.rnd
    leaves = leaf_names(scene.kind, scene.table)
    place = rnd.randrange(len(leaves))
    table, part = leaves[place], place if len(leaves) > 1 else rnd.randrange(4)
    columns = rnd.sample(some := scene.alterable(), min(len(some), rnd.randrange(1, 5)))
    names = ", ".join(["id", "part", *(column.quoted for column in columns)])
    values = ", ".join(scene.value(column) for column in columns)
    if scene.kind == "loose":
        # Unique by intent: nothing at the source sees to it.
        ids = "nextval('fresh')" if rnd.random() < 0.9 else str(rnd.randrange(1, scene.rows))
        return [
            f"INSERT INTO {table} ({names}) SELECT {ids}, {part}, {values} FROM generate_series(1, 2)"
            if ids.startswith("next")
            else f"INSERT INTO {table} ({names}) VALUES ({ids}, {part}, {values})"
        ]
    first = rnd.randrange(1, scene.rows * 2)
    count = rnd.choice([1, 1, 3, 10])
    end = rnd.choice(["ON CONFLICT DO NOTHING", "ON CONFLICT DO NOTHING", ""])
    if count == 1 and rnd.random() < 0.3 and scene.kind not in ("inherited", "diamond") and columns:
        end = f"ON CONFLICT (id, part) DO UPDATE SET {columns[0].quoted} = excluded.{columns[0].quoted}"
    return [
        f"INSERT INTO {table} ({names}) SELECT {first} + i, {part}, {values} FROM generate_series(1, {count}) i {end}"
    ]


def update(scene: Scene) -> Made:
    some = scene.alterable()
    columns = scene.rnd.sample(some, min(len(some), scene.rnd.randrange(1, 4)))
    changes = ", ".join(f"{column.quoted} = {scene.value(column)}" for column in columns) or "part = part"
    return [f"UPDATE {scene.writable()} SET {changes} WHERE {scene.some()}"]


def touch(scene: Scene) -> Made:
    return [f"UPDATE {scene.table} SET part = part WHERE {scene.some()}"]


def delete(scene: Scene) -> Made:
    return [
        f"DELETE FROM {scene.writable()} WHERE {scene.some()}" + (" AND id % 2 = 0" if scene.rnd.random() < 0.5 else "")
    ]


def lock(scene: Scene) -> Made:
    how = scene.rnd.choice(["UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"])
    return [f"SELECT 1 FROM {scene.table} WHERE {scene.some()} FOR {how}"]


def change_key(scene: Scene) -> Made:
    by = scene.rnd.choice([1, -1, 1000, 7])
    return [f"UPDATE {scene.table} SET id = id + {by} WHERE {scene.some()}"]


def widen_key(scene: Scene) -> Made:
    """Let the key be of another type: every row is written anew, and equal keys print alike."""
    return [f"ALTER TABLE {scene.table} ALTER COLUMN id TYPE {scene.rnd.choice(['bigint', 'int', 'numeric'])}"]


def key_index(scene: Scene) -> Made:
    """Take the primary key away, or give it back."""
    if scene.to == "DROP" or scene.rnd.random() < 0.5:
        return [f"ALTER TABLE {scene.table} DROP CONSTRAINT {scene.table}_pkey"]
    return [f"ALTER TABLE {scene.table} ADD PRIMARY KEY (id, part)"]


def swap_keys(scene: Scene) -> Made:
    one, two = scene.rnd.randrange(1, scene.rows), scene.rnd.randrange(1, scene.rows)
    to = f"UPDATE {scene.table} SET id ="
    return [f"{to} -1 WHERE id = {one}; {to} {one} WHERE id = {two}; {to} {two} WHERE id = -1"]


def move(scene: Scene) -> Made:
    if scene.kind in ("inherited", "diamond"):
        return touch(scene)
    return [f"UPDATE {scene.table} SET part = {scene.rnd.randrange(5)} WHERE {scene.some()}"]


def truncate(scene: Scene) -> Made:
    leaf = scene.writable()
    if scene.rnd.random() < 0.5:
        return [f"TRUNCATE {leaf}"]
    return [f"TRUNCATE {leaf}", *insert(scene)]


def refill(scene: Scene) -> Made:
    """Fill the table anew in the same transaction, so that there are as many rows and each of them is another."""
    return [
        f"CREATE TEMP TABLE old ON COMMIT DROP AS SELECT id, part FROM {scene.table}; TRUNCATE {scene.table};"
        f" INSERT INTO {scene.table} (id, part) SELECT id, part FROM old"
        if scene.kind not in ("inherited", "diamond")
        else f"DELETE FROM {scene.table} WHERE {scene.some()}"
    ]


def subtransactions(scene: Scene) -> Made:
    return [MANY.format(table=scene.table, third=scene.rnd.randrange(3))]


def copy_freeze(scene: Scene) -> Made:
    """Load rows that are frozen at birth."""
    leaf, last = scene.writable(), scene.rnd.randrange(2, 12)
    rows = f"for i in `seq 1 {last}`; do echo $i,{scene.rnd.randrange(2)},frozen; done"
    return [f"TRUNCATE {leaf}", f"COPY {leaf} (id, part, v) FROM PROGRAM '{rows}' WITH (FORMAT csv, FREEZE)"]


def detach_concurrently(scene: Scene) -> Made:
    """Detach a partition in two transactions; the second one may be left to come."""
    if scene.kind != "partitioned":
        return []
    how = scene.rnd.choice(["CONCURRENTLY", "FINALIZE"])
    return [f"ALTER TABLE {scene.table} DETACH PARTITION {scene.table}_p{scene.rnd.randrange(2)} {how}"]


def vacuum(scene: Scene) -> Made:
    how = scene.rnd.choice(
        ["VACUUM", "VACUUM (FREEZE)", "VACUUM FULL", "VACUUM (FULL, FREEZE)", "ANALYZE", "VACUUM (TRUNCATE)"]
    )
    return [f"{how} {scene.writable()}"]


def cluster(scene: Scene) -> Made:
    leaf = scene.writable()
    return [f"CLUSTER {leaf} USING {leaf}_pkey"]


def set_logged(scene: Scene) -> Made:
    return [f"ALTER TABLE {scene.table} SET {scene.to or scene.rnd.choice(['LOGGED', 'UNLOGGED'])}"]


def twin(scene: Scene) -> Made:
    """Give a row's key to a second row, and let another one go: where an index forbids it, nothing comes of it."""
    some = f"SELECT id FROM {scene.table} ORDER BY id"
    made = f"SELECT id, part, 'twin' FROM {scene.table} WHERE id = ({some} LIMIT 1) LIMIT 1"
    return [
        f"DELETE FROM {scene.table} WHERE id = ({some} DESC LIMIT 1)",
        f"INSERT INTO {scene.table} (id, part, v) {made}",
    ]


def part_twins(scene: Scene) -> Made:
    """Leave one row of each key."""
    twins = "(a.id, a.part) = (b.id, b.part) AND (a.tableoid, a.ctid) < (b.tableoid, b.ctid)"
    return [f"DELETE FROM {scene.table} a USING {scene.table} b WHERE {twins}"]


def remake(scene: Scene) -> Made:
    """Drop the table and make another of its name."""
    ddl = create(scene.kind, scene.table, scene.rnd.choice([scene.rows, 5]), scene.citext, scene.version)
    leaves = ", ".join(reversed(scene.leaves()))
    return [f"DROP TABLE IF EXISTS {leaves or scene.table}, {scene.table} CASCADE; " + "; ".join(ddl)]


def add_column(scene: Scene) -> Made:
    rnd, name = scene.rnd, quoted(f"k{scene.rnd.randrange(6)}")
    what = rnd.choice(
        [
            f"int DEFAULT {rnd.randrange(100)}",
            "text DEFAULT 'fast'",
            "text",
            "mood DEFAULT enum_first(NULL::mood)",
            "boolean DEFAULT true",
            "int DEFAULT (random() * 100)::int",
            "int GENERATED ALWAYS AS (n + 1) STORED",
            "tag DEFAULT 'made'",
            "pair",
        ]
    )
    return [f"ALTER TABLE {scene.table} ADD COLUMN {name} {what}"]


def drop_column(scene: Scene) -> Made:
    columns = scene.columns()
    # A table that loses all its columns tells nothing any more.
    return [f"ALTER TABLE {scene.table} DROP COLUMN {scene.rnd.choice(columns).quoted}"] if len(columns) > 8 else []


def readd_column(scene: Scene) -> Made:
    """Drop a column and make it anew under its name, with a value that no row version holds."""
    if not (columns := scene.alterable()):
        return []
    column = scene.rnd.choice(columns)
    if column.base.endswith("[]") or column.kind == "c":
        default = ""
    elif column.kind == "e":
        default = f" DEFAULT enum_{scene.rnd.choice(['first', 'last'])}(NULL::{column.base})"
    else:
        value = scene.value(column)
        default = f" DEFAULT {value}" if value != "NULL" else ""
    alter = f"ALTER TABLE {scene.table}"
    return [f"{alter} DROP COLUMN {column.quoted}; {alter} ADD COLUMN {column.quoted} {column.type}{default}"]


def rename_column(scene: Scene) -> Made:
    if not (columns := scene.columns()):
        return []
    return [f"ALTER TABLE {scene.table} RENAME COLUMN {scene.rnd.choice(columns).quoted} TO r{scene.rnd.randrange(6)}"]


def swap_columns(scene: Scene) -> Made:
    columns = scene.columns()
    if len(columns) < 2:
        return []
    one = scene.rnd.choice(columns)
    alike = [column for column in columns if column.type == one.type and column.name != one.name]
    two = scene.rnd.choice(alike or [column for column in columns if column.name != one.name])
    alter = f"ALTER TABLE {scene.table} RENAME COLUMN"
    return [f"{alter} {one.quoted} TO between; {alter} {two.quoted} TO {one.quoted}; {alter} between TO {two.quoted}"]


def retype_column(scene: Scene) -> Made:
    wider = {
        "integer": ["bigint", "numeric", "text"],
        "bigint": ["numeric"],
        "text": ["varchar(200)", "tag"],
        "numeric": ["numeric(20,3)", "text"],
        "mood": ["text"],
        "boolean": ["text", "int"],
        "character": ["text"],
    }
    columns = [column for column in scene.alterable() if column.base in wider]
    if not columns:
        return []
    column = scene.rnd.choice(columns)
    to = scene.rnd.choice(wider[column.base])
    using = f"({column.quoted}::{column.base})::{to}"
    return [f"ALTER TABLE {scene.table} ALTER COLUMN {column.quoted} TYPE {to} USING {using}"]


def alter_expression(scene: Scene) -> Made:
    """Change a virtual column's expression, or add such a column."""
    if scene.version < 18:
        return []
    numbers = [column for column in scene.alterable() if column.base in ("integer", "bigint")]
    if not numbers:
        return []
    expression = f"({scene.rnd.choice(numbers).quoted} * {scene.rnd.randrange(2, 6)})"
    if virtual := [column for column in scene.alterable(generated=True) if column.generated == "v"]:
        column = scene.rnd.choice(virtual)
        return [f"ALTER TABLE {scene.table} ALTER COLUMN {column.quoted} SET EXPRESSION AS {expression}"]
    return [f"ALTER TABLE {scene.table} ADD COLUMN vn {numbers[0].type} GENERATED ALWAYS AS {expression} VIRTUAL"]


def partitions(scene: Scene) -> Made:
    """Detach, attach, exchange or make partitions; the same for children of an inherited table."""
    rnd, table = scene.rnd, scene.table
    if scene.kind in ("inherited", "diamond"):
        child, parent = rnd.choice([("b", table), ("c", table), ("d", f"{table}_b"), ("d", f"{table}_c")])
        return [f"ALTER TABLE {table}_{child} {rnd.choice(['NO INHERIT', 'INHERIT', 'INHERIT'])} {parent}"]
    if scene.kind != "partitioned":
        return touch(scene)
    number = rnd.choice([0, 1, 4])
    one, values = f"{table}_p{number}", f"FOR VALUES IN ({number})"
    detach, attach = (
        f"ALTER TABLE {table} DETACH PARTITION {one}",
        f"ALTER TABLE {table} ATTACH PARTITION {one} {values}",
    )
    exchange = [
        f"CREATE TABLE {one}_new (LIKE {one} INCLUDING ALL)",
        f"INSERT INTO {one}_new (id, part) SELECT id, part FROM {one} WHERE id % 2 = 0",
        detach,
        f"DROP TABLE {one}",
        f"ALTER TABLE {one}_new RENAME TO {one}",
        attach,
    ]
    make = f"CREATE TABLE {one} PARTITION OF {table} {values}"
    return rnd.choice([[detach], [detach], [attach], [attach], [make], [f"DROP TABLE {one}"], exchange])


STATEMENTS: dict[str, Callable[[Scene], Made]] = {
    made.__name__: made
    for made in (
        insert, update, touch, delete, lock, change_key, swap_keys, widen_key, key_index, move, truncate, refill,
        subtransactions, copy_freeze, detach_concurrently, vacuum, cluster, set_logged, twin, part_twins, remake,
        add_column, drop_column, readd_column, rename_column, swap_columns, retype_column, alter_expression, partitions,
    )
}  # fmt: skip
"""What is done to a table."""
