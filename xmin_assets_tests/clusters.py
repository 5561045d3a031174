"""Real PostgreSQL servers for the tests, and fresh databases in them.

The servers live in one unpredictable folder of their own, not in pytest's: that one is closed to the account
that the servers of root run as. A second process guards the folder: when the test session ends, however that
happens, it stops the servers and deletes their data.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from xmin_assets.demo.cluster import SUPERUSER, Cluster
from xmin_assets.demo.programs import Programs, find_programs
from xmin_assets.demo.server_user import ServerUser
from xmin_assets.replication.runtime.sizing import observe_machine
from xmin_assets_tests.programs import version_of

# Nothing here outlives the session, so nothing is flushed to disk; a commit is still safe from a server's crash.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "max_prepared_transactions": "10",
    "wal_level": "replica",
    # An extract waits until what its snapshot shows is written: for three of these delays at most.
    "wal_writer_delay": "10ms",
}

# A password's 4096 rounds of hashing cost each connection twice the CPU of the rest (measured). PostgreSQL 16 has it.
QUICK_PASSWORDS = {"scram_iterations": "1"}

IN_MEMORY_BYTES = 6 << 30


@dataclass(frozen=True)
class Workshop:
    """The folder that all servers of a test session live in, with its guard."""

    folder: Path
    programs: Programs
    target_programs: Programs
    """Of servers that can be a target, where the others are too old for that: see XMIN_POSTGRES_BIN_TARGET."""
    guard: subprocess.Popen[bytes] = field(repr=False)

    @classmethod
    def open(cls, places: Sequence[Path] = ()) -> Workshop:
        """Make the folder in the first of ``places`` that will do, by default where databases are made fastest."""
        user = ServerUser.current()
        fast = [*_in_memory(), Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/tmp"), Path("/var/lib")]
        folder = user.make_folder("xmin-assets-tests-", places or fast)
        # The guard reads from this process until it ends, so it needs no signal and no polling to know.
        guard = subprocess.Popen(
            [sys.executable, "-m", "xmin_assets_tests.guard", str(folder)],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
            start_new_session=True,
        )
        programs = find_programs(user, folder)
        named = os.environ.get("XMIN_POSTGRES_BIN_TARGET")
        return cls(folder, programs, Programs(Path(named), user) if named else programs, guard)

    @property
    def version(self) -> int:
        """The major version of the servers that can be a source."""
        found = version_of(self.programs.bin_dir)
        assert found is not None
        return found

    def cluster(self, name: str, programs: Programs | None = None) -> Cluster:
        """A server, neither initialised nor started yet; it is stopped with the workshop at the latest."""
        return Cluster(self.folder / name, programs or self.programs, secrets.token_urlsafe(12))

    def start(self, name: str, **settings: str) -> Cluster:
        """A running server with the tests' settings and ``settings``."""
        return self._started(self.cluster(name), settings)

    def start_target(self, name: str, **settings: str) -> Cluster:
        """A running server that can be a target, and a source."""
        return self._started(self.cluster(name, self.target_programs), settings)

    @staticmethod
    def _started(cluster: Cluster, settings: dict[str, str]) -> Cluster:
        version = version_of(cluster.programs.bin_dir)
        assert version is not None
        quick = QUICK_PASSWORDS if version >= 16 else {}
        cluster.init({**SETTINGS, **quick, **settings}, sync=False)
        cluster.start()
        if quick:
            with closing(cluster.connect()) as connected, connected.cursor() as cursor:
                # initdb has hashed it before the settings were there.
                cursor.execute(f"ALTER ROLE {SUPERUSER} PASSWORD %s", (cluster.password,))
        return cluster

    def close(self) -> None:
        """Stop every server and delete everything: the guard's work, at a normal end as at any other."""
        assert self.guard.stdin is not None
        self.guard.stdin.close()
        assert self.guard.wait(timeout=60) == 0, f"the servers in {self.folder} were not removed"


@dataclass
class Database:
    """A database of one test's own, and its connections."""

    cluster: Cluster
    name: str
    _connections: list[Connection] = field(default_factory=list, repr=False)
    _usual_one: Connection | None = field(default=None, repr=False)

    @classmethod
    def create(cls, cluster: Cluster, encoding: str = "UTF8") -> Database:
        database = cls(cluster, f"test_{secrets.token_hex(6)}")
        with closing(cluster.connect()) as connected, connected.cursor() as cursor:
            name = sql.Identifier(database.name)
            # By default template0 goes through the buffers and the WAL, at nearly three times the CPU (measured).
            by_file = sql.SQL(" STRATEGY file_copy" if connected.server_version >= 150000 else "")
            text = sql.SQL(" ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(sql.Literal(encoding))
            cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name) + text + by_file)
        return database

    @property
    def url(self) -> str:
        """The superuser's URL."""
        return self.cluster.url(self.name)

    def url_as(self, role: str, password: str) -> str:
        """The URL of a role that the test has made."""
        return self.cluster.url(self.name, role, password)

    def connect(self, url: str | None = None) -> Connection:
        """A connection of its own, in autocommit, closed after the test; the superuser's without ``url``."""
        connected = psycopg2.connect(url or self.url)
        connected.autocommit = True
        self._connections.append(connected)
        return connected

    def execute(self, statement: str | sql.Composable, params: Sequence[Any] | None = None) -> int:
        """Run a statement in a transaction of its own; return how many rows it touched."""
        with self._usual().cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.rowcount

    def fetch(self, statement: str | sql.Composable, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows that a statement returns."""
        with self._usual().cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall()

    def disconnect(self) -> None:
        """Close all connections; the next statement makes a new one."""
        for connected in self._connections:
            connected.close()
        self._connections.clear()
        self._usual_one = None

    def drop(self) -> None:
        """Close what the test left open here, and drop the database whoever else is still in it."""
        self.disconnect()
        if not self.cluster.is_running:
            return
        with closing(self.cluster.connect()) as connected, connected.cursor() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.name)))

    def _usual(self) -> Connection:
        # Remade when a test has ended it, by a restart of the server or on purpose.
        if self._usual_one is None or self._usual_one.closed:
            self._usual_one = self.connect()
        return self._usual_one


def _in_memory() -> list[Path]:
    """Linux's folder in memory, if it has room for a session: a database is made there in a fifth of the time."""
    folder = Path("/dev/shm")
    if "TMPDIR" in os.environ or not folder.is_dir():
        return []
    status = os.statvfs(folder)
    room = min(status.f_bavail * status.f_frsize, observe_machine().memory_available or 0)
    # In a container nothing may be executed there, and root's programs may have to be copied.
    return [folder] if room >= IN_MEMORY_BYTES and not status.f_flag & os.ST_NOEXEC else []
