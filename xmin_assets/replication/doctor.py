"""Which tables can be synced at the cost of what changed, what keeps the others from it, and what the servers tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2 import sql

from xmin_assets.config import Mode, ReplicationConfig, TableConfig, load_config
from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.server import EXPORT_FACTS, FACTS, IDENTITY_FACTS, TARGET_FACTS, observe_server
from xmin_assets.postgres.server_facts import ask, refused
from xmin_assets.postgres.transaction import TransactionMode, transaction, transaction_on, translate_errors
from xmin_assets.postgres.user_triggers import WRITTEN_FACTS, names_of
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
from xmin_assets.replication.manifests.facts import TargetFacts
from xmin_assets.replication.planning.held_back import HOLDER_FACTS
from xmin_assets.replication.planning.observation import observe_target, read_source
from xmin_assets.replication.runtime.databases import open_databases
from xmin_assets.replication.runtime.retries import asked_again, run_concurrently
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.schema.selection import VIEWS
from xmin_assets.replication.state.table_lock import LOCK_FACTS
from xmin_assets.replication.table_fingerprints import COUNTER_FACTS


@dataclass(frozen=True)
class Diagnosis:
    """The findings about one table."""

    table: str
    fast: bool = False
    """Whether its syncs can read only the blocks that changed."""
    missing: tuple[MissingPrerequisite, ...] = ()
    """All that keeps them from it."""
    triggers: tuple[str, ...] = ()
    """Triggers and rules that users have put on the target, and that fire in the merge."""
    error: str | None = None


@dataclass(frozen=True)
class ServerFact:
    """Something that a server is asked for."""

    name: str
    told: bool
    purpose: str
    without: str
    """What is lost without it."""
    grant: str
    """The statements that let a role have it."""
    stops: bool = False
    """Whether it is not told, and no sync can do without it."""


@dataclass(frozen=True)
class ServerDiagnosis:
    """The findings about a server."""

    side: Literal["source", "target"]
    server: str
    """Its address, for people."""
    version: str | None = None
    facts: tuple[ServerFact, ...] = ()
    error: str | None = None

    @property
    def missing(self) -> tuple[ServerFact, ...]:
        """What the server keeps to itself."""
        return tuple(fact for fact in self.facts if not fact.told)


def diagnose_servers(config: ReplicationConfig | None = None) -> tuple[ServerDiagnosis, ServerDiagnosis]:
    """Ask both servers for what a sync asks them for; nothing is changed.

    Raises:
        ConfigError: the configuration is wrong.
    """
    with open_databases(config or load_config()) as (source, target):
        return _told("source", source), _told("target", target)


def _told(side: Literal["source", "target"], database: Database) -> ServerDiagnosis:
    try:
        return asked_again(lambda: _asked(side, database))
    except XminAssetsError as error:
        return ServerDiagnosis(side, str(database), error=str(error))


def _asked(side: Literal["source", "target"], database: Database) -> ServerDiagnosis:
    inside = (
        {**FACTS, **HOLDER_FACTS, **COUNTER_FACTS}
        if side == "source"
        else {**TARGET_FACTS, **LOCK_FACTS, **WRITTEN_FACTS}
    )
    action = "Looking at the server"
    with transaction_on(database, TransactionMode.READ, action) as cursor:
        version = sql.SQL(", pg_catalog.current_setting('server_version') AS server_version")
        told = ask(cursor, inside, version, require=False)
    with database.connection() as connection, translate_errors(database, action), connection.cursor() as cursor:
        ask(cursor, EXPORT_FACTS, sql.SQL(""))
        lacking = refused(cursor)
    unknown = side == "source" and lacking.issuperset(IDENTITY_FACTS)
    facts = tuple(
        ServerFact(
            name=fact.name.replace("_", " "),
            told=name not in lacking,
            purpose=fact.purpose,
            without=fact.without,
            grant=fact.grant,
            stops=name in lacking and (fact.required or (unknown and name in IDENTITY_FACTS)),
        )
        for name, fact in {**inside, **EXPORT_FACTS}.items()
    )
    return ServerDiagnosis(side, str(database), told["server_version"], facts)


def diagnose(config: ReplicationConfig | None = None, *, tables: Sequence[str] = ()) -> tuple[Diagnosis, ...]:
    """Look at each table's source, target and configuration; nothing is changed.

    Raises:
        ConfigError: the configuration is wrong or names no such table.
    """
    config = config or load_config()
    chosen = config.select(list(tables))
    with open_databases(config) as (source, target):
        return tuple(
            run_concurrently(lambda table: _diagnosed(source, target, table), chosen, workers_for(config.settings))
        )


def _diagnosed(source: Database, target: Database, table: TableConfig) -> Diagnosis:
    def look() -> tuple[tuple[MissingPrerequisite, ...], TargetFacts]:
        missing = tuple(_missing(source, table))
        with transaction_on(target, TransactionMode.READ, f"{table.label}: looking at the target") as cursor:
            _, facts, _ = observe_target(cursor, table, target)
        return missing, facts

    try:
        found, target_facts = asked_again(look)
    except XminAssetsError as error:
        return Diagnosis(table.label, error=str(error))
    return Diagnosis(table.label, not found, found, names_of(target_facts.code))


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
