"""Dagster's event log, written over one connection by a process that runs many steps.

A table's step has some 40 events. Dagster opens a connection, or several, for each of them, and asks with most of them
whether its own schema has a table or a column for such: of an idle sync of a small table that is by far the most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

from dagster import DagsterInstance
from dagster._core.storage.event_log import EventLogStorage, SqliteEventLogStorage
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool

STATEMENT_TIMEOUT_MS = 15 * 60 * 1000
"""Milliseconds that a statement of Dagster's own storage may take; it is no limit in practice."""

POOL_RECYCLE_S = 3600
"""Seconds after which a kept connection is made anew."""

MAX_OVERFLOW = 20
"""Connections that threads may open beside the kept one."""

SQLITE_BUSY_S = 60
"""Seconds to wait for another process that writes to the same file; Dagster's own figure."""

_kept: WeakSet[EventLogStorage] = WeakSet()


def keep_connection(instance: DagsterInstance) -> None:
    """Let this process keep its connections to Dagster's storage; to call it again changes nothing.

    Where they are in PostgreSQL, this is the method by which Dagster's webserver does it. It comes too late for what
    is written before a run's first step: `xmin_assets.orchestration.storage` keeps them from the start.
    """
    storage = instance.event_log_storage
    if storage in _kept:
        return
    if isinstance(storage, SqliteEventLogStorage):
        _keep_files_open(storage)
    else:
        instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S, MAX_OVERFLOW)
    remember_schema(storage)


def remember_schema(storage: EventLogStorage) -> None:
    """Let a storage ask only once what its schema has, and count it among those that keep their connections."""
    _kept.add(storage)
    for name in ("has_table", "has_secondary_index", "has_asset_key_col", "can_read_asset_status_cache"):
        if ask := getattr(storage, name, None):
            setattr(storage, name, _remembered(ask))


def _remembered(ask: Callable[..., bool]) -> Callable[..., bool]:
    """Ask until the answer is yes: a migration adds tables, columns and indexes, and none takes them away."""
    known = set[tuple[str, ...]]()

    def asked(*what: str) -> bool:
        if what not in known and ask(*what):
            known.add(what)
        return what in known

    return asked


def _keep_files_open(storage: SqliteEventLogStorage) -> None:
    """Keep the SQLite files open.

    Dagster makes an engine for each event, and the last connection that closes a file writes its log back into it.
    There is no setting for it, so this replaces the method that connects, under the same lock.
    """
    connect_anew, engines = storage._connect, dict[str, Engine]()

    @contextmanager
    def connect(shard: str) -> Iterator[Connection]:
        if shard not in storage._initialized_dbs:
            with connect_anew(shard) as connection:
                yield connection
            return
        with storage._db_lock:
            if shard not in engines:
                engines[shard] = create_engine(
                    storage.conn_string_for_shard(shard),
                    poolclass=StaticPool,
                    connect_args={"timeout": SQLITE_BUSY_S, "check_same_thread": False},
                )
            with engines[shard].begin() as connection:
                yield connection

    storage._connect = connect  # type: ignore[method-assign]
