"""What is known of each table without reading it: the last sync, and what holds the next one's watermark back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

import psycopg2.extensions as ext

from xmin_assets.config import ReplicationConfig, TableConfig, load_config
from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.server import horizon
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.manifests.merge import MergedTarget
from xmin_assets.replication.manifests.plan import HeldBack
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.planning.held_back import observe_held_back
from xmin_assets.replication.runtime.databases import open_databases, open_target
from xmin_assets.replication.runtime.retries import asked_again
from xmin_assets.replication.state.failures import FailedSync, read_failure
from xmin_assets.replication.state.history import PastMerge, read_history
from xmin_assets.replication.state.loads import LoadUnderWay, loads_of
from xmin_assets.replication.state.table_state import read_result, read_state
from xmin_assets.replication.state.verifications import PastVerification, read_verification

TableReport = TypeVar("TableReport")


@dataclass(frozen=True)
class TableStatus:
    """A table's last merged sync; `state` and `last` are None if it was never synced."""

    table: str
    target: str
    state: State | None = None
    last: MergedTarget | None = None
    failed: FailedSync | None = None
    """The last sync, if it failed."""
    verified: PastVerification | None = None
    """What the last comparison with the source found, if it is known."""
    steps: Mapping[str, float] = field(default_factory=dict)
    """Seconds that each station of the last sync took."""
    as_of: datetime | None = None
    """When the source was as the copy is: the time of the last sync's snapshot. None where that is not remembered."""
    load: LoadUnderWay | None = None
    """A load by chunks that has begun; the target is as the last sync left it until it ends."""
    error: str | None = None


def table_statuses(config: ReplicationConfig | None = None, *, tables: Sequence[str] = ()) -> tuple[TableStatus, ...]:
    """Return the status of each configured table, from the target's state.

    Raises:
        ConfigError: the configuration is wrong or names no such table.
    """
    return _read_each_table(
        config,
        tables,
        "Reading the state",
        _status,
        lambda table, error: TableStatus(table.label, str(table.target_name), error=error),
    )


def comparison_basis(target: Database, table: TableConfig) -> str:
    """Digest what the result of a comparison rests on beside the rows: while it is the same, an old one may stand.

    That is how the table is configured, which source the last sync read, which start of it, and the target table.

    Raises:
        XminAssetsError: the target failed.
    """
    with transaction_on(target, TransactionMode.READ, f"{table.label}: reading the state") as cursor:
        state = read_state(cursor, table.target_name)
    facts: list[object] = [table.model_dump_json()]
    if state:
        # Its partitions and files may come and go, as rows do.
        facts += [replace(state.identity, leaves=()), state.source_started, state.target_oid, state.resync]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _status(cursor: ext.cursor, table: TableConfig) -> TableStatus:
    name = table.target_name
    last = read_history(cursor, name, 1)
    # What came after the snapshot; a clock of the source would be another clock.
    since = sum(last[0].seconds[station] for station in ("extract", "stage", "merge")) if last else 0
    return TableStatus(
        table.label,
        str(name),
        read_state(cursor, name),
        read_result(cursor, name),
        read_failure(cursor, name),
        read_verification(cursor, name),
        last[0].seconds if last else {},
        last[0].merged_at - timedelta(seconds=since) if last else None,
        next(iter(loads_of(cursor, name)), None),
    )


@dataclass(frozen=True)
class TableHistory:
    """A table's last merges, the newest one first; none if it was never synced since history is kept."""

    table: str
    target: str
    merges: tuple[PastMerge, ...] = ()
    error: str | None = None


def table_histories(
    config: ReplicationConfig | None = None, *, tables: Sequence[str] = (), limit: int = 20
) -> tuple[TableHistory, ...]:
    """Return the last `limit` merges of each configured table, from the target's state.

    Raises:
        ConfigError: the configuration is wrong or names no such table.
    """
    return _read_each_table(
        config,
        tables,
        "Reading the history",
        lambda cursor, table: TableHistory(
            table.label, str(table.target_name), read_history(cursor, table.target_name, limit)
        ),
        lambda table, error: TableHistory(table.label, str(table.target_name), error=error),
    )


def _read_each_table(
    config: ReplicationConfig | None,
    tables: Sequence[str],
    action: str,
    read: Callable[[ext.cursor, TableConfig], TableReport],
    failed: Callable[[TableConfig, str], TableReport],
) -> tuple[TableReport, ...]:
    """Read something of each table in one transaction of the target, or say why it cannot be read."""
    config = config or load_config()
    chosen = config.select(list(tables))
    with open_target(config) as target:
        try:
            with transaction_on(target, TransactionMode.READ, action) as cursor:
                return tuple(read(cursor, table) for table in chosen)
        except XminAssetsError as error:
            return tuple(failed(table, str(error)) for table in chosen)


@dataclass(frozen=True)
class SourceStatus:
    """How far the source's open transactions hold the watermarks back; `error` says why that is not known."""

    held_back: HeldBack | None
    next_xid: int = 0
    """The xid64 that the source's next transaction gets: a watermark this high is up to date."""
    error: str | None = None

    def transactions_above(self, state: State) -> int | None:
        """Return how many transactions the source has begun above a table's watermark; None where it is not known.

        What they have written, the next sync may have to read.
        """
        return max(0, self.next_xid - state.watermark) if self.next_xid else None


def _source_status(source: Database) -> SourceStatus:
    with transaction_on(source, TransactionMode.READ_SNAPSHOT, "Looking at open transactions") as cursor:
        held_back = observe_held_back(cursor)
        return SourceStatus(held_back, horizon(cursor) + held_back.transactions)


def source_status(config: ReplicationConfig | None = None) -> SourceStatus:
    """Return what holds the source's horizon back right now, or why that cannot be known."""
    config = config or load_config()
    try:
        with open_databases(config) as (source, _):
            return asked_again(lambda: _source_status(source))
    except XminAssetsError as error:
        return SourceStatus(None, error=str(error))
