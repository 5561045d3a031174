"""What PostgreSQL needs at least for the same work, done by hand with psql: the measure of every scenario.

Each is what somebody would type who knows the table: one COPY through one pipe, nothing checked, nothing remembered.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg2 import sql

from benchmarks.columns import columns_of, listed
from benchmarks.competitor import CompetitorFailed, Outcome, Role, Task
from benchmarks.data import KEY
from benchmarks.servers import Servers, environment
from benchmarks.watch import Watch
from xmin_assets_tests.clusters import Database

_CHANGED = "SELECT {columns} FROM {table} WHERE age(xmin) <= (SELECT age({since}::xid))"
"""Good for half the ids that there are: younger than 2^31 transactions."""

_MERGE = """
MERGE INTO {table} t USING changed s ON t.{key} = s.{key}
 WHEN MATCHED AND ({old}) IS DISTINCT FROM ({new_others}) THEN UPDATE SET ({others}) = ROW({new_others})
 WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({new})
"""

_DELETE = "DELETE FROM {table} t WHERE NOT EXISTS (SELECT FROM present s WHERE s.{key} = t.{key})"


@dataclass(frozen=True)
class Baseline:
    """A baseline; all share one copy, which is loaded by the pipe."""

    name: str
    by_hand: Callable[[Task], Outcome]
    """Brings the copy up to date, or does what is to be compared with that."""

    @property
    def role(self) -> Role:
        return "baseline"

    @property
    def copy(self) -> str:
        return "baseline"

    def obstacle(self, servers: Servers) -> str | None:
        return _no_psql(servers)

    def load(self, task: Task) -> Outcome:
        return copy_through_pipe(task)

    def sync(self, task: Task) -> Outcome:
        return self.by_hand(task)


@dataclass(frozen=True)
class BinaryPipe:
    """The pipe in PostgreSQL's binary format, which only servers that agree on every type can use."""

    @property
    def name(self) -> str:
        return "psql binary COPY pipe + key"

    @property
    def role(self) -> Role:
        return "reference"

    @property
    def copy(self) -> str:
        return "binary"

    def obstacle(self, servers: Servers) -> str | None:
        return _no_psql(servers)

    def load(self, task: Task) -> Outcome:
        return copy_through_pipe(task, binary=True)

    def sync(self, task: Task) -> Outcome:  # noqa: ARG002
        raise CompetitorFailed("it copies whole tables only")


def copy_through_pipe(task: Task, *, binary: bool = False) -> Outcome:
    """Run ``psql COPY TO | psql COPY FROM`` into plain tables, and their primary keys afterwards."""
    for table in task.tables:
        columns = [sql.SQL("{} {}").format(c.sql, sql.SQL(c.type)) for c in columns_of(task.source, table)]
        create = sql.SQL("CREATE TABLE {} ({})").format(_public(table), sql.SQL(", ").join(columns))
        task.target.execute(create)
    began = time.perf_counter()
    if len(task.tables) == 1:
        (table,) = task.tables
        form = sql.SQL(" (FORMAT binary)" if binary else "")
        send = _text(task.source, sql.SQL("COPY {} TO STDOUT{}").format(_public(table), form))
        take = _text(task.target, sql.SQL("COPY {} FROM STDIN{}").format(_public(table), form))
        memory = _pipe(task, ["-c", send], ["-c", take])
    else:
        memory = _pipe_script(task)
    copied = time.perf_counter()
    keys = [
        sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(_public(table), sql.Identifier(KEY))
        for table in task.tables
    ]
    task.target.execute(sql.SQL("; ").join(keys))
    ended = time.perf_counter()
    return Outcome(ended - began, memory, parts={"copy": round(copied - began, 4), "key": round(ended - copied, 4)})


def count_rows(task: Task) -> Outcome:
    """Return a bare ``count(*)`` of every table by one process of the server, over a connection that is open."""
    connection = task.source.connect()
    with connection.cursor() as cursor:
        cursor.execute("SET max_parallel_workers_per_gather = 0")
        began = time.perf_counter()
        for table in task.tables:
            cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(_public(table)))
            cursor.fetchone()
        seconds = time.perf_counter() - began
    connection.close()
    return Outcome(seconds)


def merge_by_hand(task: Task) -> Outcome:
    """Return the changed rows through a pipe into a temporary table, and a MERGE, in one transaction."""
    (table,) = task.tables
    columns = columns_of(task.source, table)
    changed = sql.SQL(_CHANGED).format(
        columns=listed(columns), table=_public(table), since=sql.Literal(str(task.since % 2**32))
    )
    others = [column for column in columns if column.name != KEY]
    merge = sql.SQL(_MERGE).format(
        table=_public(table),
        key=sql.Identifier(KEY),
        old=listed(others, "t."),
        others=listed(others),
        new_others=listed(others, "s."),
        columns=listed(columns),
        new=listed(columns, "s."),
    )
    make = sql.SQL("CREATE TEMPORARY TABLE changed (LIKE {}) ON COMMIT DROP").format(_public(table))
    return _one_transaction(task, changed, make, "changed", merge)


def delete_by_hand(task: Task) -> Outcome:
    """Return all keys through a pipe into a temporary table, and a DELETE of the rows that are not among them."""
    (table,) = task.tables
    key = sql.Identifier(KEY)
    keys = sql.SQL("SELECT {} FROM {}").format(key, _public(table))
    make = sql.SQL("CREATE TEMPORARY TABLE present ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0").format(
        key, _public(table)
    )
    delete = sql.SQL(_DELETE).format(table=_public(table), key=key)
    return _one_transaction(task, keys, make, "present", delete)


def _one_transaction(
    task: Task, query: sql.Composable, make: sql.Composable, name: str, then: sql.Composable
) -> Outcome:
    send = _text(task.source, sql.SQL("COPY ({}) TO STDOUT").format(query))
    take = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(name))
    analyze = sql.SQL("ANALYZE {}").format(sql.Identifier(name))
    words = ["-1"]
    for statement in (make, take, analyze, then):
        words += ["-c", _text(task.target, statement)]
    began = time.perf_counter()
    memory = _pipe(task, ["-c", send], words)
    return Outcome(time.perf_counter() - began, memory)


def _pipe_script(task: Task) -> int:
    """Build the script of many tables through one pipe: the source's psql writes the target's, as pg_dump does."""
    lines = []
    for table in task.tables:
        name = _text(task.source, _public(table))
        lines += [f"\\echo 'COPY {name} FROM STDIN;'", f"COPY {name} TO STDOUT;", "\\echo '\\\\.'"]
    script = task.folder / "tables.sql"
    script.write_text("\n".join(lines) + "\n")
    return _pipe(task, ["-f", str(script)], ["-1", "-f", "-"])


def _pipe(task: Task, send: Sequence[str], take: Sequence[str]) -> int:
    """Run two psql with a pipe between them; their memory, in bytes."""
    psql = [str(task.servers.program("psql")), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
    source = subprocess.Popen([*psql, *send], env=environment(task.source.url), stdout=subprocess.PIPE)
    target = subprocess.Popen([*psql, *take], env=environment(task.target.url), stdin=source.stdout)
    assert source.stdout is not None
    source.stdout.close()  # so that it ends when the other one does
    with Watch(source, target) as watch:
        statuses = (target.wait(), source.wait())
    if any(statuses):
        raise CompetitorFailed(f"psql ended with {statuses[1]} at the source and {statuses[0]} at the target")
    return watch.memory_bytes


def _no_psql(servers: Servers) -> str | None:
    try:
        servers.program("psql")
    except FileNotFoundError as error:
        return str(error)
    return None


def _public(table: str) -> sql.Identifier:
    return sql.Identifier("public", table)


def _text(database: Database, statement: sql.Composable) -> str:
    connection = database.connect()
    try:
        return statement.as_string(connection)
    finally:
        connection.close()


PIPE = Baseline("psql COPY pipe + key", copy_through_pipe)
COUNT = Baseline("count(*)", count_rows)
MERGE = Baseline("scan + MERGE by hand", merge_by_hand)
DELETE = Baseline("keys + DELETE by hand", delete_by_hand)
BINARY = BinaryPipe()
