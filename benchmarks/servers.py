"""The two servers of a benchmark: settings, databases, and what a server has written.

Both are on disk with the durability that PostgreSQL has by default: a load that need not be flushed would flatter
whoever writes most.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg2 import sql
from psycopg2.extensions import parse_dsn

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database, Workshop

SETTINGS: Mapping[str, str] = {
    "shared_buffers": "1GB",
    "maintenance_work_mem": "256MB",
    # Checkpoints are made between the runs, not within them; segments of WAL are kept, so that no run has to make them.
    "max_wal_size": "16GB",
    "min_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    # One of the other programs opens a connection for every table.
    "max_connections": "300",
    # Tables are vacuumed and analyzed between the runs, the same for all, and not by chance within one.
    "autovacuum": "off",
}
"""What differs from PostgreSQL's own defaults, in both servers and for all competitors."""

PLACES = (Path("/var/tmp"), Path(tempfile.gettempdir()), Path("/var/lib"))


@dataclass(frozen=True)
class Servers:
    """A running source and a running target."""

    source: Cluster
    target: Cluster
    folder: Path
    """On the same disk, for spools and other programs' working files."""

    def program(self, name: str) -> Path:
        """Return a client program, of the servers' own version if there is one.

        Raises:
            FileNotFoundError: there is none.
        """
        own = self.source.programs.bin_dir / name
        found = own if own.is_file() else shutil.which(name)
        if found is None:
            raise FileNotFoundError(f"{name} is neither in {own.parent} nor on the path")
        return Path(found)

    def checkpoint(self) -> None:
        """Let both servers write what is dirty, so that no run pays for the one before it."""
        for server in (self.source, self.target):
            database = Database(server, "postgres")
            database.execute("CHECKPOINT")
            # The checkpointer reports what it wrote after it has answered: before the next checkpoint at the latest.
            database.execute("CHECKPOINT")
            database.disconnect()


@dataclass(frozen=True)
class Written:
    """What the target had written at a moment, in bytes since it was started."""

    wal: int
    files: int | None
    """Pages of tables and indexes through the buffers, which is all but an index that is built; None before 16."""

    @classmethod
    def now(cls, target: Cluster) -> Written:
        """Ask the server; only after a checkpoint are the files complete."""
        database = Database(target, "postgres")
        # The position tells at once what pg_stat_wal tells when its backend has reported.
        ((wal,),) = database.fetch("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8")
        ((version,),) = database.fetch("SELECT current_setting('server_version_num')::int")
        files = None
        if version >= 160000:
            # Not what files grew by: a new page is counted there when its place is made, and here when it is written.
            bytes_written = sql.SQL("write_bytes" if version >= 180000 else "writes * op_bytes")
            query = sql.SQL("SELECT coalesce(sum({}), 0)::int8 FROM pg_stat_io WHERE object = 'relation'")
            ((files,),) = database.fetch(query.format(bytes_written))
        database.disconnect()
        return cls(wal, files)


SUMMARIES: Mapping[str, str] = {"summarize_wal": "on"}
"""For syncs that read only what changed."""


@contextmanager
def open_servers(folder: Path | None = None, more: Mapping[str, str] | None = None) -> Iterator[Servers]:
    """Start both servers in a new folder, with `more` settings, and remove them with their data in the end."""
    workshop = Workshop.open([folder] if folder else PLACES)
    try:
        files = workshop.folder / "files"
        files.mkdir(mode=0o700)
        yield Servers(_start(workshop, "source", more or {}), _start(workshop, "target", more or {}), files)
    finally:
        workshop.close()


def _start(workshop: Workshop, name: str, more: Mapping[str, str]) -> Cluster:
    cluster = workshop.cluster(name)
    cluster.init({**SETTINGS, **more})
    cluster.start()
    return cluster


def environment(url: str) -> dict[str, str]:
    """Return this process's environment, with libpq's variables for a database: a password is on no command line."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    return dict(os.environ) | {names[key]: value for key, value in parse_dsn(url).items()}
