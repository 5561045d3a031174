"""A TCP proxy in front of a server, which can be slow, and can be cut."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from xmin_assets_tests.clusters import Database
from xmin_assets_tests.pooler import by_port


class Proxy:
    """Forwards connections to a port of this machine.

    Args:
        port: where to.
        delay: seconds that everything takes longer, either way.
    """

    def __init__(self, port: int, delay: float = 0) -> None:
        self.delay = delay
        self.cut_after: int | None = None
        """Bytes from the server after which all connections are cut, once."""
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._guard = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def url(self, database: Database) -> str:
        """A database's URL, through the proxy."""
        return url_by(self.port, database)

    def cut(self) -> None:
        """Reset all connections."""
        with self._guard:
            for end in self._sockets:
                with suppress(OSError):
                    # To linger for no time sends RST instead of FIN: nobody takes leave.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)
                end.close()
            self._sockets.clear()

    def close(self) -> None:
        """Take no more connections and cut those that there are."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else accept() would go on waiting
        self._listener.close()
        self._accepting.join()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            with self._guard:
                self._sockets += [client, server]
            threading.Thread(target=self._forward, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, True), daemon=True).start()

    def _forward(self, giver: socket.socket, taker: socket.socket, from_server: bool) -> None:
        with suppress(OSError):
            while data := giver.recv(1 << 16):
                if self.delay:
                    time.sleep(self.delay)
                if from_server and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        self.cut_after = None
                        self.cut()
                        return
                taker.sendall(data)
        for end in (giver, taker):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def url_by(port: int, database: Database) -> str:
    """A database's URL, by another port than its server's own."""
    return by_port(database.url, port)


@contextmanager
def proxy_to(database: Database, delay: float = 0) -> Iterator[Proxy]:
    """A proxy in front of a database's server."""
    proxy = Proxy(database.cluster.port, delay)
    try:
        yield proxy
    finally:
        proxy.close()
