"""The source and the target of a configuration, opened for as many workers as there are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from xmin_assets.config import ReplicationConfig, Settings
from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.replication.manifests.merge import MergedTarget
from xmin_assets.replication.manifests.serialization import build
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.runtime.courtesy import Courtesy
from xmin_assets.replication.runtime.rate_limit import RateLimit
from xmin_assets.replication.runtime.retries import retrying
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.spool.last_sync import LastSync

FIRST_ATTEMPTS = 3
"""How often a first connection is tried: a mistyped address should be reported soon."""

_log = logging.getLogger(__name__)


@contextmanager
def open_databases(config: ReplicationConfig, settings: Settings | None = None) -> Iterator[tuple[Database, Database]]:
    """Open the source and the target, each bounded to as many connections as there are workers.

    Whatever is read from the one, and loaded into the other, until they are closed shares the rates of the settings.

    Raises:
        ConfigError: a connection string is missing or cannot be read.
    """
    settings = settings or config.settings
    workers = workers_for(settings)
    with (
        _database(config.source_url(), "source", settings, workers, settings.read_rate) as source,
        _database(config.target_url(), "target", settings, workers, settings.load_rate) as target,
    ):
        courtesy = source.courtesy = Courtesy(source) if settings.courtesy else None
        try:
            yield source, target
        finally:
            if courtesy:
                courtesy.close()


@contextmanager
def open_target(config: ReplicationConfig, settings: Settings | None = None) -> Iterator[Database]:
    """Open the target alone."""
    with _database(config.target_url(), "target", settings or config.settings, 1) as target:
        yield target


def unreachable(source: Database, target: Database) -> str | None:
    """Return why a database cannot be reached; None if both can. It is asked once, and not for every table."""

    def connect_to(database: Database) -> None:
        with database.connection():
            pass

    def connect() -> None:
        with ThreadPoolExecutor(2, thread_name_prefix="xmin-connect") as pool:
            connected = pool.map(connect_to, (source, target))
            build(State, MergedTarget, LastSync)  # while the servers answer
            list(connected)

    try:
        retrying(max_attempts=FIRST_ATTEMPTS)(connect)
    except XminAssetsError as error:
        _log.debug("no connection", exc_info=True)
        return str(error)
    return None


def _database(url: str, side: str, settings: Settings, limit: int, rate: float | None = None) -> Database:
    return Database(
        url,
        side,
        limit=limit,
        connect_timeout=settings.connect_timeout,
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
        budget=RateLimit(rate) if rate else None,
    )
