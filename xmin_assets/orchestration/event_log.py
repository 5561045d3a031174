"""Dagster's event log, written over one connection by a process that runs many steps.

A table's step has some 40 events. Dagster opens a connection, or several, for each of them, and asks with most of them
whether its own schema has a table or a column for such: of an idle sync of a small table that is by far the most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from dagster import DagsterInstance
from dagster._core.storage.event_log import EventLogStorage, SqliteEventLogStorage
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool

STATEMENT_TIMEOUT_MS = 15 * 60 * 1000
"""Milliseconds that a statement of Dagster's own storage may take; it is no limit in practice."""

POOL_RECYCLE_S = 3600
"""Seconds after which a kept connection is opened again."""

MAX_OVERFLOW = 20
"""Connections that threads may open beside the kept one."""

SQLITE_BUSY_S = 60
"""Seconds to wait for another process that writes to the same file; Dagster's own figure."""

MAX_OPEN_FILES = 4
"""SQLite files of a storage that stay open: that of all runs' assets, and those of a few runs."""

_kept: WeakSet[EventLogStorage] = WeakSet()
_files: WeakKeyDictionary[EventLogStorage, dict[str, Engine]] = WeakKeyDictionary()
_connect_anew = SqliteEventLogStorage._connect


def keep_connection(instance: DagsterInstance) -> None:
    """Let this process keep its connections to Dagster's storage; to call it again changes nothing.

    Where they are in PostgreSQL, this is the method by which Dagster's webserver does it. It comes too late for what
    is written before a run's first step: `xmin_assets.orchestration.storage` keeps them from the start.
    """
    storage = instance.event_log_storage
    if storage in _kept:
        return
    if isinstance(storage, SqliteEventLogStorage):
        keep_files_open()
    else:
        instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S, MAX_OVERFLOW)
    remember_schema(storage)


def keep_files_open() -> None:
    """Let this process keep the SQLite files of Dagster's event log open; to call it again changes nothing.

    Dagster makes an engine for each event, and the last connection that closes a file writes its log back into it.
    There is no setting for it, so this replaces the method that connects, under the same lock. It has no instance to
    go by: a process that loads the definitions and makes the run (``dagster job execute``) writes nine events for each
    table before the first step, for hundreds of tables a third of the whole run.
    """
    SqliteEventLogStorage._connect = _connect_to_open_file  # type: ignore[method-assign,assignment]


@contextmanager
def _connect_to_open_file(storage: SqliteEventLogStorage, shard: str) -> Iterator[Connection]:
    if shard not in storage._initialized_dbs:
        with storage._db_lock:
            # Dagster has removed the file if it was open: `dagster run wipe`.
            if removed := _files.get(storage, {}).pop(shard, None):
                removed.dispose()
        with _connect_anew(storage, shard) as connection:
            yield connection
        return
    with storage._db_lock:
        engines = _files.setdefault(storage, {})
        # The one that was used last is last.
        engines[shard] = engine = engines.pop(shard, None) or _open_file(storage.conn_string_for_shard(shard))
        while len(engines) > MAX_OPEN_FILES:
            engines.pop(next(iter(engines))).dispose()
        with engine.begin() as connection:
            yield connection


def _open_file(url: str) -> Engine:
    engine = create_engine(
        url, poolclass=StaticPool, connect_args={"timeout": SQLITE_BUSY_S, "check_same_thread": False}
    )
    event.listen(engine, "connect", _do_not_wait_for_the_disk)
    return engine


def _do_not_wait_for_the_disk(connection: Any, _: object) -> None:
    """Return in its write-ahead log, which Dagster sets, a power cut may lose the last events, and spoils no file.

    https://www.sqlite.org/pragma.html#pragma_synchronous
    """
    connection.execute("PRAGMA synchronous = NORMAL")


def remember_schema(storage: EventLogStorage) -> None:
    """Let a storage ask only once what its schema has, and count it among those that keep their connections."""
    _kept.add(storage)
    for name in ("has_table", "has_secondary_index", "has_asset_key_col", "can_read_asset_status_cache"):
        if ask := getattr(storage, name, None):
            setattr(storage, name, _remembered(ask))


def _remembered(ask: Callable[..., bool]) -> Callable[..., bool]:
    """Ask until the answer is yes: a migration adds tables, columns and indexes, and none takes them away."""
    known = set[tuple[str, ...]]()

    def requested(*what: str) -> bool:
        if what not in known and ask(*what):
            known.add(what)
        return what in known

    return requested
