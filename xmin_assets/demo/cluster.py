"""One PostgreSQL server in a data directory of its own, on 127.0.0.1 only.

What is running is read from the data directory and never remembered elsewhere, so a killed command, a reboot
or a second start find the truth. A data directory appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg2
from psycopg2.extensions import connection as Connection

from xmin_assets.demo.errors import DemoError, ServerNotStarted
from xmin_assets.demo.programs import Programs

SUPERUSER = "postgres"
HOST = "127.0.0.1"
# No Unix socket: its path would be too long in deep folders, and predictable to other users in /tmp.
ALWAYS = {"listen_addresses": HOST, "unix_socket_directories": ""}
START_SECONDS = 120
STOP_SECONDS = 60
PORT_ATTEMPTS = 10


@dataclass(frozen=True)
class Cluster:
    """A server that keeps its data in ``data_dir``; ``password`` is the superuser's."""

    data_dir: Path
    programs: Programs
    password: str = field(repr=False)

    @property
    def name(self) -> str:
        """The name of its data directory."""
        return self.data_dir.name

    @property
    def log(self) -> Path:
        """What the server writes its log to."""
        return self.data_dir / "server.log"

    @property
    def is_initialized(self) -> bool:
        """Whether there is a data directory."""
        return (self.data_dir / "PG_VERSION").is_file()

    @property
    def is_running(self) -> bool:
        """Whether the server answers from this data directory."""
        return self._postmaster() is not None

    @property
    def port(self) -> int:
        """The port that the running server listens on. Raises DemoError when it is not running."""
        lines = self._lock_file()
        if not self.is_running or len(lines) < 4 or not lines[3].isdigit():
            raise DemoError(f"The PostgreSQL server in {self.data_dir} is not running.")
        return int(lines[3])

    def url(self, dbname: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """Return a libpq URL of the running server; without a password the superuser's."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user, safe='')}:{secret}@{HOST}:{self.port}/{quote(dbname, safe='')}"

    def connect(self, dbname: str = "postgres") -> Connection:
        """Connect as the superuser, in autocommit."""
        connected = psycopg2.connect(self.url(dbname))
        connected.autocommit = True
        return connected

    def init(self, settings: Mapping[str, str] | None = None, *, sync: bool = True) -> None:
        """Make the data directory, with ``settings`` in its postgresql.conf.

        ``sync=False`` leaves writing it to disk to the operating system.

        Raises DemoError when initdb fails or something else is in the place.
        """
        if self.data_dir.exists():
            raise DemoError(f"{self.data_dir} exists and is not a PostgreSQL data directory.")
        user = self.programs.user
        for left in self.data_dir.parent.glob(f"{self.name}.unfinished-*"):
            shutil.rmtree(left, ignore_errors=True)
        # Of a new name each time: an initdb whose parent was killed may still be writing to the last one.
        unfinished = Path(tempfile.mkdtemp(prefix=f"{self.name}.unfinished-", dir=self.data_dir.parent))
        user.own(unfinished)

        options = ["--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", f"--username={SUPERUSER}"]
        options += ["--pwfile=/dev/stdin", *([] if sync else ["--no-sync"])]
        with tempfile.TemporaryFile() as password:
            # A file without a name: initdb opens it anew as its own user, and nothing is left of it.
            if user.drops_rights:
                os.fchown(password.fileno(), user.uid, user.gid)
            password.write(self.password.encode())
            password.flush()
            password.seek(0)
            made = self.programs.run("initdb", "-D", unfinished, *options, stdin=password, capture_output=True)
        if made.returncode != 0:
            raise DemoError(f"initdb failed in {unfinished}: {_last_words(made.stderr)}")

        lines = [f"{name} = '{_quoted(value)}'" for name, value in {**(settings or {}), **ALWAYS}.items()]
        written = user.run(
            "/bin/sh",
            "-c",
            'cat >> "$1"',
            "sh",
            unfinished / "postgresql.conf",
            input="\n".join(lines) + "\n",
        )
        if written.returncode != 0:
            raise DemoError(f"Cannot write the settings of the server in {unfinished}.")
        unfinished.rename(self.data_dir)

    def start(self, port: int | None = None) -> int:
        """Start the server unless it runs, and return its port: ``port``, or a free one when that is taken.

        Raises ServerNotStarted with the words of the server's log.
        """
        if self.is_running:
            self._await_ready()
            return self.port
        self._forget_foreign_pid()
        for _ in range(PORT_ATTEMPTS):
            candidate = port or free_port()
            if self._start_on(candidate):
                return candidate
            port = None
        raise ServerNotStarted(f"The server in {self.data_dir} found no free port.")

    def stop(self, *, immediate: bool = False) -> bool:
        """Stop the server and wait for its end; ``immediate`` is a crash. Return whether it was running."""
        postmaster = self._postmaster()
        if postmaster is None:
            return False
        mode = "immediate" if immediate else "fast"
        stopped = self._pg_ctl("stop", "-m", mode, "-w", "-t", str(STOP_SECONDS))
        # pg_ctl waits for the lock file to go; the process itself ends a moment later.
        deadline = time.monotonic() + STOP_SECONDS
        while _is_alive(postmaster) and time.monotonic() < deadline:
            time.sleep(0.01)
        if _is_alive(postmaster):
            raise DemoError(f"The server in {self.data_dir} did not stop: {_last_words(stopped.stderr)}")
        return True

    def _start_on(self, port: int) -> bool:
        """Return whether it started; False when the port is taken."""
        said_before = self.log.stat().st_size if self.log.exists() else 0
        options: list[str | Path] = ["-w", "-t", str(START_SECONDS), "-l", self.log, "-o", f"-p {port}"]
        started = self._pg_ctl("start", *options)
        if started.returncode == 0:
            return True
        log = b""
        if self.log.exists():
            with self.log.open("rb") as file:
                file.seek(said_before)
                log = file.read()
        if b"Address already in use" in log:
            return False
        words = _last_words(log.decode(errors="replace") or started.stderr)
        raise ServerNotStarted(f"The server in {self.data_dir} did not start: {words}\nMore is in {self.log}.")

    def _await_ready(self) -> None:
        """Wait for a server that another command has started, and that may be recovering from a crash."""
        deadline = time.monotonic() + START_SECONDS
        # The eighth line is the status (src/include/utils/pidfile.h); pg_ctl, too, looks at it again and again.
        while not any(line.strip() in ("ready", "standby") for line in self._lock_file()[7:8]):
            if not self.is_running or time.monotonic() > deadline:
                raise ServerNotStarted(f"The server in {self.data_dir} does not get ready. See {self.log}.")
            time.sleep(0.05)

    def _pg_ctl(self, action: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
        return self.programs.run("pg_ctl", action, "-D", self.data_dir, *options, capture_output=True)

    def _lock_file(self) -> list[str]:
        """Return the lines of postmaster.pid: process, data directory, start time, port, socket folder, ..."""
        try:
            return (self.data_dir / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _postmaster(self) -> psutil.Process | None:
        """Return the running server. The process that postmaster.pid names may, after a reboot, be anybody's."""
        lines = self._lock_file()
        if not lines or not lines[0].lstrip("-").isdigit():
            return None
        try:
            process = psutil.Process(abs(int(lines[0])))
            # The working directory would tell too, but root in a container may not read that of other users.
            return process if _is_alive(process) and str(self.data_dir) in process.cmdline() else None
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return None

    def _forget_foreign_pid(self) -> None:
        """Remove a postmaster.pid whose process lives and is not the server: PostgreSQL would not start.

        One whose process is gone is left to PostgreSQL, which knows more. Two servers are impossible all the
        same: the shared memory block is keyed by the data directory's inode (src/backend/port/sysv_shmem.c).
        """
        lines = self._lock_file()
        if lines and lines[0].isdigit() and psutil.pid_exists(int(lines[0])):
            (self.data_dir / "postmaster.pid").unlink(missing_ok=True)


def free_port() -> int:
    """Return a port that was free a moment ago on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_alive(process: psutil.Process) -> bool:
    # In a container whose first process does not reap orphans, an ended server stays as a zombie.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _last_words(output: str) -> str:
    """Return the line of a program's output that tells most, for an error of one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if telling := re.search(r"(FATAL|PANIC|error):.*", line):
            return telling.group()
    return lines[-1] if lines else "it said nothing."
