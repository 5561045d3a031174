"""Connections: opened with a bound, handed out one at a time, cancelled together.

A transaction-pooling proxy may stand in front of the server, so every setting is made by SET LOCAL when a transaction
begins (see `transaction`). There is one exception, `idle_session_timeout`, which counts between transactions: where it
is set, it is turned off when a connection is opened. A proxy's own connection that keeps this does no harm.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import psycopg2
import psycopg2.extensions as ext

from xmin_assets.errors import Cancelled, ConfigError, ConnectionFailed, ConnectionRefused, ServerFull, XminAssetsError
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.rows import fetch_value

_live: weakref.WeakSet[ext.connection] = weakref.WeakSet()
_guard = threading.Lock()
_cancelled = threading.Event()

# A dead peer is noticed in about a minute and a half, on either side of a silent network.
_DEFAULTS: dict[str, Any] = {
    "application_name": "xmin_assets",
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 90_000,
}

_REFUSALS = ("authentication failed", "no password supplied", "does not exist", "permission denied", "pg_hba.conf")
IDLE_SESSION_TIMEOUT = 140000
"""server_version_num from which there is that setting."""

ASK_AFTER = 10.0
"""Seconds after which a connection that lay idle is asked before it is used: a firewall or a proxy may have cut it."""

# Limits of the server, of its ordinary roles, of one role or database, and of PgBouncer.
_FULL = ("too many clients", "remaining connection slots", "too many connections", "no more connections allowed")


class MakesWay(Protocol):
    """What slows the users of a database down when it has much to do."""

    def make_way(self, seconds: float, until: float) -> None:
        """Wait after a piece of work that took so many seconds, until a monotonic time in seconds at most.

        Raises:
            Cancelled: `cancel_all` was called.
        """


class Budget(Protocol):
    """What all users of one database may move in a second."""

    @property
    def piece(self) -> int:
        """Bytes that should be moved at once at most, so that the pace is even."""

    def pay(self, size: int, until: float = math.inf) -> None:
        """Wait until so many bytes may be moved, or until a monotonic time in seconds.

        Raises:
            Cancelled: `cancel_all` was called.
        """


class Database:
    """A database that is reached over at most `limit` connections at a time.

    Args:
        url: libpq URL or keyword string.
        side: what people call it: ``source`` or ``target``.
        limit: connections open at the same time.
        connect_timeout: seconds to wait for a connection.
        statement_timeout: seconds that one statement may take; 0 is no limit.
        lock_timeout: seconds to wait for a lock; 0 is no limit.
        budget: what its users may move together; None is no limit.

    Raises:
        ConfigError: the url is not a connection string.
    """

    def __init__(
        self,
        url: str,
        side: str,
        *,
        limit: int = 8,
        connect_timeout: int = 10,
        statement_timeout: float = 3600,
        lock_timeout: float = 30,
        budget: Budget | None = None,
    ) -> None:
        try:
            given = ext.parse_dsn(url)
        except psycopg2.Error:
            # libpq's message quotes the part that it could not read, which may be the password.
            raise ConfigError(
                f"The {side} connection string cannot be read. Write a libpq URL, postgresql://user@host:5432/dbname "
                "(percent-encode special characters in the password), or a keyword string, host=... dbname=..."
            ) from None
        self.side = side
        self.statement_timeout = statement_timeout
        self.lock_timeout = lock_timeout
        self.budget = budget
        self.courtesy: MakesWay | None = None
        """What slows readers down when the database has much to do; None: nothing does."""
        self._arguments = {"connect_timeout": connect_timeout, **_DEFAULTS, **given, "client_encoding": "UTF8"}
        self._changed = threading.Condition()
        self._most = limit
        self._open = 0
        self._prepared = 0
        self._idle: list[tuple[ext.connection, float]] = []
        self._closed = False
        self.watches_clients = True
        """Whether the server can notice in the middle of a statement that its client is gone."""

    def __str__(self) -> str:
        given = self._arguments
        host = given.get("host") or given.get("hostaddr") or ("" if "service" in given else "localhost")
        address = f"{host}:{given['port']}" if "port" in given else host
        return f"{self.side} {address or 'service ' + given['service']}/{given.get('dbname', '')}".rstrip("/")

    __repr__ = __str__

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def most_at_once(self, size: int) -> int:
        """Return how many bytes may be moved at once: `size`, or what the budget says where that is less."""
        return min(size, self.budget.piece) if self.budget else size

    @contextmanager
    def connection(self) -> Iterator[ext.connection]:
        """Lend a connection in autocommit mode, as soon as one is free.

        Raises:
            ConnectionFailed: the server does not answer.
            ConnectionRefused: it answers, and refuses the role or the database.
            ServerFull: it takes no more connections, and none of ours is open.
            Cancelled: `cancel_all` was called.
        """
        connection = self._take(wait=True)
        assert connection is not None
        yield from self._lend(connection)

    @contextmanager
    def spare_connection(self) -> Iterator[ext.connection | None]:
        """Lend a connection if one can be had right now, or is prepared; else None, for help that is not needed.

        Raises:
            ConnectionFailed: as `connection` does.
        """
        connection = self._take(wait=False)
        if connection is None:
            yield None
        else:
            yield from self._lend(connection)

    @contextmanager
    def extra_connection(self) -> Iterator[ext.connection]:
        """Open a connection beside the limit, and close it at the end.

        Raises:
            ConnectionFailed: as `connection` does.
        """
        connection = self.open_extra()
        try:
            yield connection
        finally:
            connection.close()

    def open_extra(self) -> ext.connection:
        """Open a connection beside the limit, which the caller closes.

        Raises:
            ConnectionFailed: as `connection` does.
        """
        check_cancelled()
        return self._connect()

    def prepare(self) -> None:
        """Begin to open a connection, if there may be one more, for a caller that needs one soon."""

        def connect() -> None:
            try:
                with suppress(XminAssetsError):
                    connection = self._take(wait=False, fresh=True)
                    if connection is not None:
                        self._give_back(connection)
            finally:
                with self._changed:
                    self._prepared -= 1
                    self._changed.notify_all()

        with self._changed:
            self._prepared += 1
        threading.Thread(target=connect, name=f"xmin-{self.side}-connect", daemon=True).start()

    def close(self) -> None:
        """Close the connections that nobody uses, and those in use when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop()[0].close()

    def _take(self, wait: bool, fresh: bool = False) -> ext.connection | None:
        while True:
            with self._changed:
                while (fresh or not self._idle) and self._open >= self._most:
                    if not wait and (fresh or not self._prepared):
                        return None
                    self._changed.wait(0.5)
                    check_cancelled()
                check_cancelled()
                idle = self._idle.pop() if self._idle and not fresh else None
                if idle is None:
                    self._open += 1
            if idle is not None:
                connection, since = idle
                if time.monotonic() - since < ASK_AFTER or _answers(connection):
                    return connection
                self._drop(connection)
                continue
            try:
                return self._connect()
            except BaseException as error:
                with self._changed:
                    self._open -= 1
                    self._changed.notify()
                    if not isinstance(error, ServerFull) or not self._open:
                        raise
                    # The connections that are open must do: each is given back after its work.
                    self._most = self._open

    def _lend(self, connection: ext.connection) -> Iterator[ext.connection]:
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _give_back(self, connection: ext.connection) -> None:
        # A transaction left open means that the work was cut: no one else may inherit it.
        usable = not connection.closed and connection.info.transaction_status == ext.TRANSACTION_STATUS_IDLE
        if usable and not self._closed:
            with self._changed:
                self._idle.append((connection, time.monotonic()))
                self._changed.notify()
        else:
            self._drop(connection)

    def _drop(self, connection: ext.connection) -> None:
        connection.close()
        with self._changed:
            self._open -= 1
            self._changed.notify()

    def _connect(self) -> ext.connection:
        try:
            connection: ext.connection = psycopg2.connect(**self._arguments)
            connection.autocommit = True
            _stay_idle(connection)
        except psycopg2.Error as error:
            message = f"No connection to the {self}: {one_line(error)}"
            # Not "from error": libpq's words may quote a part of the URL.
            # A failed connection has no SQLSTATE. What is not known for a refusal may pass, and is tried again.
            if any(words in message for words in _FULL):
                raise ServerFull(f"{message} Let it have more, or run fewer syncs and workers at a time.") from None
            refused = any(words in message for words in _REFUSALS)
            raise (ConnectionRefused if refused else ConnectionFailed)(message) from None
        with _guard:
            _live.add(connection)
        return connection


def _stay_idle(connection: ext.connection) -> None:
    """Let a connection lie idle between two transactions for as long as the work of the others takes."""
    if connection.server_version < IDLE_SESSION_TIMEOUT:
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_session_timeout")
        if fetch_value(cursor, str) != "0":
            cursor.execute("SET idle_session_timeout = 0")


def _answers(connection: ext.connection) -> bool:
    """Return whether the server is still at the other end."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT")
    except psycopg2.Error:
        return False
    return True


def cancel_all() -> None:
    """Cancel what every connection of this process is doing, and let no new work begin.

    The statements end with `Cancelled`, until `resume`.
    """
    _cancelled.set()
    with _guard:
        connections = list(_live)
    for connection in connections:
        with suppress(psycopg2.Error):  # it may end by itself meanwhile
            if not connection.closed:
                connection.cancel()


def resume() -> None:
    """Let new work begin after `cancel_all`: what was cancelled has ended, and the process goes on."""
    _cancelled.clear()


def cancelled() -> bool:
    """Return whether `cancel_all` was called."""
    return _cancelled.is_set()


def pause(seconds: float) -> None:
    """Wait, and end with `Cancelled` at once if `cancel_all` is called."""
    _cancelled.wait(seconds)
    check_cancelled()


def check_cancelled() -> None:
    """Raise `Cancelled` if `cancel_all` was called."""
    if _cancelled.is_set():
        raise Cancelled("The sync was stopped. What was merged is complete; the rest comes with the next sync.")
