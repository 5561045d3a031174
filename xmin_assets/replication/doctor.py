"""Which tables can be synced at the cost of what changed, and what keeps the others from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xmin_assets.config import Mode, ReplicationConfig, TableConfig, load_config
from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.server import observe_server
from xmin_assets.postgres.transaction import TransactionMode, transaction
from xmin_assets.replication.changed_blocks.prerequisites import (
    BLOCKS_OF_DELETED_ROWS,
    CLOSED_PARTITIONS,
    REPEATED_KEYS,
    TURNED_OFF,
    UNLIKE_PARTITIONS,
    WAY_TO_THE_PRESENT,
    MissingPrerequisite,
    check_prerequisites,
)
from xmin_assets.replication.planning.observation import read_source
from xmin_assets.replication.runtime.databases import open_databases
from xmin_assets.replication.runtime.retries import run_concurrently
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.schema.selection import VIEWS


@dataclass(frozen=True)
class Diagnosis:
    """The findings about one table."""

    table: str
    fast: bool = False
    """Whether its syncs can read only the blocks that changed."""
    missing: tuple[MissingPrerequisite, ...] = ()
    """All that keeps them from it."""
    error: str | None = None


def diagnose(config: ReplicationConfig | None = None, *, tables: Sequence[str] = ()) -> tuple[Diagnosis, ...]:
    """Look at the source and the configuration of each table; nothing is changed.

    Raises:
        ConfigError: the configuration is wrong or names no such table.
    """
    config = config or load_config()
    chosen = config.select(list(tables))
    with open_databases(config) as (source, _):
        return tuple(run_concurrently(lambda table: _diagnosed(source, table), chosen, workers_for(config.settings)))


def _diagnosed(source: Database, table: TableConfig) -> Diagnosis:
    try:
        found = tuple(_missing(source, table))
    except XminAssetsError as error:
        return Diagnosis(table.label, error=str(error))
    return Diagnosis(table.label, not found, found)


def _missing(source: Database, table: TableConfig) -> list[MissingPrerequisite]:
    action = f"{table.label}: looking at the source"
    with source.connection() as connection:
        with transaction(source, connection, TransactionMode.READ, action) as cursor:
            server = observe_server(cursor)
        with transaction(source, connection, TransactionMode.READ_SNAPSHOT, action) as cursor:
            facts, storage = read_source(cursor, server, table)
            access, missing = check_prerequisites(cursor, server, storage, checkpoint=table.checkpoint)
    if facts.identity.kind in VIEWS or table.mode is not Mode.XMIN_INCREMENTAL:
        return [
            MissingPrerequisite(
                f"its mode is {table.mode.value}", "Only mode: xmin_incremental reads what changed by blocks."
            )
        ]
    if not table.wal_summaries:
        missing.append(TURNED_OFF)
    if not facts.selection.unique_key:
        missing.append(REPEATED_KEYS)
    if not all(leaf.readable for leaf in storage):
        missing.append(CLOSED_PARTITIONS)
    if not all(leaf.alike for leaf in storage):
        missing.append(UNLIKE_PARTITIONS)
    if not access.inspector and not access.checkpoint:
        missing.append(WAY_TO_THE_PRESENT)
    if not table.track_blocks and table.deletes.detects and table.delete_interval is None:
        missing.append(BLOCKS_OF_DELETED_ROWS)
    return missing
