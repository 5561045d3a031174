"""A pooler that keeps a server's session when its client is gone in the middle of a transaction.

PgBouncer closes such a session. PgCat and PgDog roll its transaction back and lend it to the next client, with the
session-level locks that it has. This does the same, message by message
(https://www.postgresql.org/docs/current/protocol-message-formats.html).
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.faults.proxy import url_by

_NO_ENCRYPTION = {80877103, 80877104}  # SSLRequest, GSSENCRequest
_CANCEL = 80877102
_LOGGED_IN = b"R" + struct.pack("!ii", 8, 0)
_ROLLBACK = b"Q" + struct.pack("!i", 13) + b"ROLLBACK\0"


class Gone(Exception):
    """The other end has closed the connection."""


class Stream:
    """The messages that come over a socket."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._left = b""

    def read(self) -> list[bytes]:
        """The messages that are complete after the next bytes have come. Raises Gone."""
        try:
            data = self.end.recv(1 << 16)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self._left += data
        messages = []
        while len(self._left) >= 5 and len(self._left) > (size := struct.unpack("!i", self._left[1:5])[0]):
            messages.append(self._left[: 1 + size])
            self._left = self._left[1 + size :]
        return messages


@dataclass
class Session:
    """A server's session: where it goes on, and what it said when it began."""

    stream: Stream
    greeting: bytes = b""
    is_ready: bool = False


class KeepingPooler:
    """Lends sessions of the server at a port of this machine, one client after the other."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._kept: dict[bytes, list[Session]] = {}
        self._clients: list[socket.socket] = []
        self._servers: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def url(self, database: Database) -> str:
        """A database's URL, through the pooler."""
        return url_by(self.port, database)

    @property
    def kept(self) -> int:
        """How many sessions wait for a client."""
        return sum(len(sessions) for sessions in self._kept.values())

    def lose_clients(self) -> None:
        """Cut all clients off, as if their machine had died."""
        for end in self._clients:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more clients and end all sessions."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else accept() would go on waiting
        self._listener.close()
        self._accepting.join()
        self.lose_clients()
        for end in self._servers:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(Gone, OSError), client:
            startup = _startup(client)
            session = self._session(client, startup)
            if session is None:
                return
            try:
                _relay(Stream(client), session)
            finally:
                self._keep(startup, session)

    def _session(self, client: socket.socket, startup: bytes) -> Session | None:
        if kept := self._kept.get(startup):
            session = kept.pop()
            client.sendall(_LOGGED_IN + session.greeting)
            return session
        server = socket.create_connection(("127.0.0.1", self._to))
        self._servers.append(server)
        server.sendall(startup)
        if struct.unpack("!i", startup[4:8])[0] != _CANCEL:
            return Session(Stream(server))
        server.close()
        return None

    def _keep(self, startup: bytes, session: Session) -> None:
        if session.is_ready:
            session.stream.end.sendall(_ROLLBACK)
            while not any(message[:1] == b"Z" for message in session.stream.read()):
                pass
            self._kept.setdefault(startup, []).append(session)
        else:
            session.stream.end.close()


def _startup(client: socket.socket) -> bytes:
    while True:
        size = struct.unpack("!i", client.recv(4, socket.MSG_WAITALL))[0]
        rest = client.recv(size - 4, socket.MSG_WAITALL)
        if struct.unpack("!i", rest[:4])[0] not in _NO_ENCRYPTION:
            return struct.pack("!i", size) + rest
        client.sendall(b"N")


def _relay(client: Stream, session: Session) -> None:
    """Pass messages on, until the client is gone or takes its leave."""
    is_greeting = not session.greeting
    while True:
        ready, _, _ = select.select([client.end, session.stream.end], [], [])
        if client.end in ready:
            for message in client.read():
                if message[:1] == b"X":
                    return
                session.is_ready = False
                session.stream.end.sendall(message)
        if session.stream.end in ready:
            for message in session.stream.read():
                is_login = message[:1] == b"R"
                session.is_ready = message[:1] == b"Z"
                if is_greeting and not is_login:
                    session.greeting += message
                    is_greeting = not session.is_ready
                client.end.sendall(message)


@contextmanager
def pooler_to(database: Database) -> Iterator[KeepingPooler]:
    """A pooler in front of a database's server."""
    pooler = KeepingPooler(database.cluster.port)
    try:
        yield pooler
    finally:
        pooler.close()
