"""Transactions whose every setting is their own.

The settings that decide how a value is printed and read are pinned in each transaction, so that roles, databases
and servers with other defaults exchange the same bytes. SET does not take a snapshot, so a lock may still be
taken before the transaction's first one (https://www.postgresql.org/docs/current/sql-lock.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import cache

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import Cancelled, RefusedNow, UnsupportedServer
from xmin_assets.postgres.connection import Database, cancelled
from xmin_assets.postgres.error_translation import translate
from xmin_assets.postgres.server_facts import Lacking, RefusedMeanwhile

PINNED = {
    "client_encoding": "UTF8",
    "search_path": "",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # format_type() and format() quote names only where they must be.
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    # An error beats a copy that lacks the rows which a policy hides.
    "row_security": "off",
    # Compiling costs more than it gives for statements that stream.
    "jit": "off",
    "client_min_messages": "warning",
    # Longer than any pause between two statements of ours: it only ends a transaction whose process is stuck.
    "idle_in_transaction_session_timeout": "15min",
    # The server's side of the connection, as ours: a machine that vanished holds locks for a minute and a half.
    "tcp_keepalives_idle": "30s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "6",
    "tcp_user_timeout": "90s",
}

_SINCE = {17: {"transaction_timeout": "0"}}
"""Settings that there are only from a major version on: an extract takes as long as it takes."""

_WATCH = "client_connection_check_interval"
"""A long statement ends when the process that sent it is gone. Refused by servers on Windows."""


def _pins(settings: Mapping[str, str]) -> sql.Composable:
    return sql.SQL("; ").join(
        sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name.lower()), sql.Literal(value))
        for name, value in settings.items()
    )


@cache
def _pinned(version: int, watches_clients: bool) -> sql.Composable:
    newer = {name: value for since, names in _SINCE.items() if version >= since for name, value in names.items()}
    return _pins({**PINNED, **newer, **({_WATCH: "2s"} if watches_clients else {})})


_AT_LEAST = """
SELECT pg_catalog.set_config(%(name)s, %(size)s || 'kB', true)
 WHERE pg_catalog.pg_size_bytes(pg_catalog.current_setting(%(name)s)) < %(size)s * 1024
"""

HEARTBEAT = 30.0
"""Seconds between two signs of life of a transaction that waits, well below idle_in_transaction_session_timeout."""


class TransactionMode(Enum):
    """How a transaction begins."""

    READ_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    READ = "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY"
    WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"


@contextmanager
def transaction(
    database: Database,
    connection: ext.connection,
    mode: TransactionMode,
    action: str,
    *first: sql.Composable,
) -> Iterator[ext.cursor]:
    """Run a transaction on the connection: commit it at the end, roll it back on any exception.

    Args:
        database: where the connection comes from; its timeouts apply.
        connection: in autocommit mode.
        mode: how to begin.
        action: the beginning of the error's sentence: what is done to which table.
        first: statements to send along with BEGIN, before anything takes a snapshot.

    Raises:
        XminAssetsError: the driver's error, translated.
    """
    with _statement(database, connection, action) as cursor:
        try:
            _begin(database, connection, cursor, mode, first)
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise


def _begin(
    database: Database,
    connection: ext.connection,
    cursor: ext.cursor,
    mode: TransactionMode,
    first: tuple[sql.Composable, ...],
) -> None:
    timeouts = {"statement_timeout": database.statement_timeout, "lock_timeout": database.lock_timeout}
    own = _pins({name: str(round(seconds * 1000)) for name, seconds in timeouts.items()})
    for watches in (True, False) if database.watches_clients else (False,):
        pinned = _pinned(connection.server_version // 10000, watches)
        try:
            cursor.execute(sql.SQL("; ").join([sql.SQL(mode.value), pinned, own, *first]))
            return
        except psycopg2.errors.InvalidParameterValue as error:
            if not watches or _WATCH not in str(error):
                raise
            database.watches_clients = False
            cursor.execute("ROLLBACK")


def give_memory(cursor: ext.cursor, setting: str, size: int) -> None:
    """Let the rest of the transaction use more memory, unless it may use as much already.

    Args:
        cursor: in the transaction.
        setting: ``work_mem`` or ``maintenance_work_mem``.
        size: bytes.
    """
    cursor.execute(_AT_LEAST, {"name": setting, "size": size >> 10})


@contextmanager
def transaction_on(
    database: Database, mode: TransactionMode, action: str, *first: sql.Composable
) -> Iterator[ext.cursor]:
    """Run a `transaction` on whichever connection is free."""
    with database.connection() as connection, transaction(database, connection, mode, action, *first) as cursor:
        yield cursor


@contextmanager
def _statement(database: Database, connection: ext.connection, action: str) -> Iterator[ext.cursor]:
    with translate_errors(database, action), connection.cursor() as cursor:
        yield cursor


@contextmanager
def translate_errors(database: Database, action: str) -> Iterator[None]:
    """Let the driver's errors out as ours; for work in a thread on a cursor that another one has made."""
    try:
        yield
    except Lacking as lacking:
        raise UnsupportedServer(f"{action} ({database}): {lacking}") from lacking
    except RefusedMeanwhile as refusal:
        raise RefusedNow(f"{action} ({database}): {refusal} It was allowed a moment ago; run it again.") from refusal
    except psycopg2.Error as error:
        if cancelled():
            # The cause is only that the server did what it was asked to.
            raise Cancelled(f"{action}: stopped.") from None
        raise translate(error, f"{action} ({database})") from error


def roll_back(connection: ext.connection) -> None:
    """End the connection's transaction, if there still is one."""
    try:
        if not connection.closed and connection.info.transaction_status != ext.TRANSACTION_STATUS_IDLE:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")
    except psycopg2.Error:
        connection.close()
