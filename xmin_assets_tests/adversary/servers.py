"""The two servers of the histories: a source that can be hurt, and a target.

A committed transaction can only be lost where commits are flushed at all, so the source runs with fsync, in memory if
the machine lets it. A library preloaded into it makes the flushes of its WAL as slow as a file says.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from xmin_assets.demo.cluster import Cluster
from xmin_assets.demo.programs import Programs
from xmin_assets.replication.changed_blocks.prerequisites import MIN_VERSION
from xmin_assets_tests.clusters import SETTINGS, Workshop

TIMEOUT = 40.0
"""Seconds within which a server is back after a crash."""

ATTEMPTS = 50
"""How often the WAL writer is stopped until it is found asleep."""

SOURCES, TARGET = ("one", "two"), "copies"
"""Databases of the source, both copied into the one of the target."""

READER = "reader"
"""A role that may read all tables and no more."""

HARD = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "autovacuum": "off",
    "max_prepared_transactions": "20",
    "wal_writer_delay": "10ms",
    "checkpoint_timeout": "1h",
    "log_min_messages": "warning",
}


@dataclass(frozen=True)
class Preloaded(Programs):
    """Server programs that are started with more variables in their environment."""

    variables: dict[str, str] = field(default_factory=dict)

    def run(self, program: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """As `Programs.run`."""
        options["env"] = {**self.variables, **options.get("env", {})}
        return super().run(program, *arguments, **options)


@dataclass
class Servers:
    """The source and the target, and what can be done to the source as a whole."""

    source: Cluster
    target: Cluster
    version: int
    delay: Path | None
    """The file that says how slow the disk is; None without a C compiler."""
    _stopped: int | None = None

    @property
    def is_hampered(self) -> bool:
        """Whether WAL gets to the disk late, or not by itself."""
        return self._stopped is not None or (self.delay is not None and self.delay.read_text() != "0")

    def slow(self, milliseconds: int) -> bool:
        """Let every flush of WAL take so much longer; False if that cannot be done here."""
        if self.delay is None:
            return False
        self.delay.write_text(str(milliseconds))
        return True

    def stop_walwriter(self) -> None:
        """Let nothing be flushed but by who waits for it."""
        about = "FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        pid = ask(self.source, f"SELECT pid {about}")
        for _ in range(ATTEMPTS if pid and self._stopped is None else 0):
            self._stopped = pid
            os.kill(pid, signal.SIGSTOP)
            # In the middle of a flush it holds a lock that all others would wait for, whom no timeout wakes.
            if ask(self.source, f"SELECT wait_event_type {about}") == "Activity":
                return
            self.continue_walwriter()
            time.sleep(0.01)

    def continue_walwriter(self) -> None:
        """Let it go on, if it was stopped."""
        if self._stopped is not None:
            with suppress(ProcessLookupError):
                os.kill(self._stopped, signal.SIGCONT)
            self._stopped = None

    def kill(self, pid: int) -> None:
        """Kill a backend, so that the server recovers from the crash by itself, and wait until it has."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self._after_crash()
        # Once the postmaster has noticed its end, it lets nobody in before it has recovered.
        until(lambda: not exists(pid), "the killed backend is gone")
        until(self._answers, "the source recovers from the crash of a backend")

    def crash(self) -> None:
        """Crash the whole server and start it again."""
        port, postmaster = self.source.port, int(self.source._lock_file()[0])
        os.kill(postmaster, signal.SIGQUIT)
        self._after_crash()
        self.source.stop(immediate=True)
        self.source.start(port)

    def restart(self) -> None:
        """Restart it in order."""
        self.continue_walwriter()
        port = self.source.port
        self.source.stop()
        self.source.start(port)

    def remove_summaries(self) -> None:
        """Remove the summaries of WAL that there are, as they go when they are too old."""
        for summary in (self.source.data_dir / "pg_wal" / "summaries").glob("*.summary"):
            summary.unlink(missing_ok=True)

    def back_up_or_restore(self, backup: Cluster | None) -> Cluster | None:
        """Copy the stopped source aside; or, if there is such a copy, let it take the source's place."""
        self.continue_walwriter()
        port, place = self.source.port, self.source.data_dir.with_name("adversary-backup")
        self.source.stop()
        try:
            if backup is None:
                user = self.source.programs.user
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(mode=0o700)
                user.own(place)
                copied = user.run("cp", "-a", f"{self.source.data_dir}/.", place, capture_output=True)
                assert copied.returncode == 0, copied.stderr
                return Cluster(place, self.source.programs, "")
            shutil.rmtree(self.source.data_dir)
            place.rename(self.source.data_dir)
            return None
        finally:
            self.source.start(port)

    def forget_backup(self, backup: Cluster | None) -> None:
        """Delete the copy."""
        if backup is not None:
            shutil.rmtree(backup.data_dir, ignore_errors=True)

    def recovered(self) -> bool:
        """Wait until the source answers, after a session was lost; whether it did not at once."""
        if self._answers():
            return False
        until(self._answers, "the source answers again")
        return True

    def calm(self) -> None:
        """A healthy server again."""
        self.continue_walwriter()
        if self.delay is not None:
            self.delay.write_text("0")
        if not self.source.is_running:
            self.source.start()
        until(self._answers, "the source answers")

    def _after_crash(self) -> None:
        # A process that is stopped would keep the server from ending for 5 seconds, and must not flush before it ends.
        if self._stopped is not None:
            time.sleep(0.1)
            self.continue_walwriter()

    def _answers(self) -> bool:
        try:
            return bool(ask(self.source, "SELECT 1"))
        except psycopg2.OperationalError:
            return False


@contextmanager
def running(workshop: Workshop) -> Iterator[Servers]:
    """Start both servers with their databases, and stop them in the end whatever happened."""
    version = workshop.version
    settings = {**SETTINGS, **HARD, **({"summarize_wal": "on"} if version >= MIN_VERSION else {})}
    library = compiled(workshop)
    delay = workshop.folder / "slow_disk_ms" if library else None
    programs: Programs = workshop.programs
    if library and delay:
        delay.write_text("0")
        delay.chmod(0o644)
        variables = {"LD_PRELOAD": str(library), "SLOW_DISK_FILE": str(delay)}
        programs = Preloaded(programs.bin_dir, programs.user, variables)
    plain = workshop.cluster("adversary-source")
    source = Cluster(plain.data_dir, programs, plain.password)
    source.init(settings, sync=False)
    source.start()
    target = workshop.start_target("adversary-target", autovacuum="off")
    servers = Servers(source, target, version, delay)
    try:
        for server, names in ((source, SOURCES), (target, (TARGET,))):
            for name in names:
                with closing(server.connect()) as connected, connected.cursor() as cursor:
                    cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        with closing(source.connect()) as connected, connected.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{source.password}' IN ROLE pg_read_all_data")
        for name in SOURCES if version >= MIN_VERSION else ():
            with closing(source.connect(name)) as connected, connected.cursor() as cursor, suppress(psycopg2.Error):
                cursor.execute("CREATE SCHEMA tools; CREATE EXTENSION pg_walinspect SCHEMA tools")
                function = "tools.pg_get_wal_block_info(pg_lsn, pg_lsn, boolean)"
                cursor.execute(f"GRANT USAGE ON SCHEMA tools TO {READER}")
                cursor.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {READER}")
        yield servers
    finally:
        servers.continue_walwriter()
        if delay:
            delay.write_text("0")
        for server in (source, target):
            server.stop(immediate=True)
            shutil.rmtree(server.data_dir, ignore_errors=True)


def compiled(workshop: Workshop) -> Path | None:
    """The library that makes the disk slow; None where there is no C compiler, or it cannot be preloaded."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    library = workshop.folder / "slow_disk.so"
    code = Path(__file__).with_name("slow_disk.c")
    made = subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, code, "-ldl"], capture_output=True)
    if made.returncode != 0:
        return None
    library.chmod(0o755)
    preloaded = Preloaded(workshop.programs.bin_dir, workshop.programs.user, {"LD_PRELOAD": str(library)})
    tried = preloaded.run("postgres", "--version", capture_output=True)
    return library if tried.returncode == 0 and "LD_PRELOAD" not in tried.stderr else None


def ask(server: Cluster, query: str) -> Any:
    """The one value that a query gives."""
    with closing(server.connect()) as connected, connected.cursor() as cursor:
        cursor.execute(query)
        found = cursor.fetchone()
        return found[0] if found else None


def exists(pid: int) -> bool:
    """Whether there is a process of this id, one that its parent has not noticed the end of included."""
    return Path(f"/proc/{pid}").exists()


def until(fact: Callable[[], bool], what: str) -> None:
    """Poll until it is true."""
    deadline = time.monotonic() + TIMEOUT
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {TIMEOUT:.0f} s: {what}")
        time.sleep(0.01)
