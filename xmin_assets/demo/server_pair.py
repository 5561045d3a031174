"""The demo's two servers: a source that is read and a target that is written, up and down with one call each.

The target also hosts the database ``dagster``, where the Dagster of this project keeps its runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2

from xmin_assets.demo import dotenv, memory
from xmin_assets.demo.cluster import Cluster
from xmin_assets.demo.databases import prepare_source, prepare_target
from xmin_assets.demo.errors import DemoError
from xmin_assets.demo.memory import Memory
from xmin_assets.demo.programs import Programs, find_programs
from xmin_assets.demo.sample import create_sample
from xmin_assets.demo.server_user import ServerUser

# Enough for eight workers, Dagster's processes and a workload; durable, since nobody expects less of a demo.
SETTINGS = {"max_connections": "100", "shared_buffers": "128MB", "max_wal_size": "1GB"}


@dataclass(frozen=True)
class ServerPair:
    """A running pair. ``started`` names the servers that were not running before."""

    source: Cluster
    target: Cluster
    remembered: Memory
    started: tuple[str, ...]

    @property
    def source_url(self) -> str:
        """What replication reads with: ``xmin_reader``, who has SELECT and nothing else."""
        return self.source.url("source", "xmin_reader", self.remembered.passwords["xmin_reader"])

    @property
    def target_url(self) -> str:
        """What replication writes with: ``xmin_writer``, owner of the database ``target``."""
        return self.target.url("target", "xmin_writer", self.remembered.passwords["xmin_writer"])

    @property
    def dagster_url(self) -> str:
        """What Dagster keeps its storage in: the database ``dagster`` of the target's server."""
        return self.target.url("dagster", "dagster", self.remembered.passwords["dagster"])

    @property
    def app_url(self) -> str:
        """What changes the source: ``app``, owner of its tables."""
        return self.source.url("source", "app", self.remembered.passwords["app"])

    @property
    def environment(self) -> dict[str, str]:
        """The variables that stand in ``.env``."""
        urls = (self.source_url, self.target_url, self.dagster_url)
        return dict(zip(dotenv.KEYS, urls, strict=True))


def up(directory: Path) -> ServerPair:
    """Start the pair of the project in ``directory``, with its databases, its tables and ``.env``.

    Only what is missing is made; of a pair that is up already ``started`` is empty. Raises DemoError.
    """
    directory = directory.resolve()
    with _errors_for_people(directory), memory.only_one(directory, create=True):
        user = ServerUser.current()
        remembered = memory.recall(directory) or memory.begin(directory, user)
        source, target = _clusters(remembered, find_programs(user, remembered.servers))
        started = tuple(cluster.name for cluster in (source, target) if not cluster.is_running)
        for cluster in (source, target):
            if not cluster.is_initialized:
                cluster.init({**SETTINGS, "cluster_name": f"xmin-assets demo {cluster.name}"})
            cluster.start(remembered.ports[cluster.name])
        remembered = replace(remembered, ports={"source": source.port, "target": target.port})
        memory.remember(directory, remembered)
        pair = ServerPair(source, target, remembered, started)
        prepare_source(source, remembered.passwords)
        prepare_target(target, remembered.passwords)
        create_sample(pair.app_url)
        write_env(directory, pair)
        return pair


def running(directory: Path) -> ServerPair | None:
    """Return the pair of ``directory`` when both its servers run, without changing anything."""
    directory = directory.resolve()
    remembered = memory.recall(directory)
    if remembered is None:
        return None
    source, target = _clusters(remembered, find_programs(ServerUser.current(), remembered.servers))
    return ServerPair(source, target, remembered, ()) if source.is_running and target.is_running else None


def down(directory: Path, *, purge: bool = False) -> tuple[str, ...]:
    """Stop the pair of ``directory`` and return the names of the servers that were running.

    ``purge`` also deletes their data, ``.demo``, and the demo's lines in ``.env``.
    """
    directory = directory.resolve()
    with _errors_for_people(directory), memory.only_one(directory, create=False):
        remembered = memory.recall(directory)
        stopped: tuple[str, ...] = ()
        if remembered is not None:
            clusters = _clusters(remembered, find_programs(ServerUser.current(), remembered.servers))
            stopped = tuple(cluster.name for cluster in clusters if cluster.stop())
        if purge:
            memory.forget(directory, remembered)
            dotenv.clear_env(directory)
        return stopped


def write_env(directory: Path, pair: ServerPair) -> Path:
    """Write the pair's addresses to ``directory``/.env, mode 0600, keeping foreign lines; return its path."""
    return dotenv.write_env(directory, pair.environment)


def _clusters(remembered: Memory, programs: Programs) -> tuple[Cluster, Cluster]:
    password = remembered.passwords["postgres"]
    source, target = (Cluster(remembered.servers / name, programs, password) for name in ("source", "target"))
    return source, target


@contextmanager
def _errors_for_people(directory: Path) -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        words = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DemoError(f"A demo server refused: {words}\nDelete {directory / memory.FOLDER} to begin anew.") from error
    except OSError as error:
        raise DemoError(f"Cannot keep the demo in {directory}: {error}.") from error
