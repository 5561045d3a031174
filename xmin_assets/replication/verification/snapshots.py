"""The two snapshots of a comparison: first the target's, with the state in it, then the source's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2.extensions as ext

from xmin_assets.config import TableConfig
from xmin_assets.errors import NotComparable
from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.planning.observation import locked_source
from xmin_assets.replication.planning.source_identity import require_caught_up
from xmin_assets.replication.planning.wal_proof import with_proof
from xmin_assets.replication.scan.conditions import read_lock
from xmin_assets.replication.state.history import MergeXids, merge_xids
from xmin_assets.replication.state.table_state import read_state


@dataclass(frozen=True)
class TargetRead:
    """The target, under its snapshot."""

    cursor: ext.cursor
    state: State
    leaves: tuple[catalog.Storage, ...]
    attributes: tuple[catalog.Attribute, ...]
    merges: MergeXids
    encoding: str


@dataclass(frozen=True)
class SourceRead:
    """The source, under its snapshot."""

    cursor: ext.cursor
    facts: SourceFacts
    leaves: tuple[catalog.Storage, ...]
    attributes: tuple[catalog.Attribute, ...]


@contextmanager
def opened_target(target: Database, table: TableConfig, action: str) -> Iterator[TargetRead]:
    """Open a snapshot of the target: its rows, and the state of the merge that left them.

    Raises:
        NotComparable: the table was never synced, or is another one now.
        XminAssetsError: the target failed.
    """
    with transaction_on(target, TransactionMode.READ, action) as cursor:
        _require_synced(cursor, table)  # there must be a table to lock
    # A command that empties or rewrites the table, or a merge that changes its columns, is over or waits for us.
    lock = read_lock(table.target_name, "r")
    with transaction_on(target, TransactionMode.READ_SNAPSHOT, action, lock) as cursor:
        state, relation = _require_synced(cursor, table)
        cursor.execute(lock)  # a partition attached between the lock and the snapshot is not locked yet
        yield TargetRead(
            cursor=cursor,
            state=state,
            leaves=catalog.storage_of(cursor, relation.oid),
            attributes=catalog.columns_of(cursor, relation.oid),
            merges=merge_xids(cursor, table.target_name, relation.oid),
            encoding=_encoding(cursor),
        )


@contextmanager
def opened_source(source: Database, table: TableConfig, state: State, action: str) -> Iterator[SourceRead]:
    """Open a snapshot of the source that is later than the one that the last sync read.

    Raises:
        SourceBehind: a standby has not replayed what the last sync saw.
        XminAssetsError: the source failed, or its table cannot be read as configured.
    """
    kind = state.identity.kind
    with (
        source.connection() as connection,
        locked_source(source, connection, table, kind, action) as (cursor, facts, leaves),
    ):
        require_caught_up(table, facts, state)
        facts = with_proof(cursor, facts, leaves, state)
        yield SourceRead(cursor, facts, leaves, catalog.columns_of(cursor, facts.identity.relation_oid))


def _require_synced(cursor: ext.cursor, table: TableConfig) -> tuple[State, catalog.Relation]:
    state, relation = read_state(cursor, table.target_name), catalog.find_relation(cursor, table.target_name)
    if state is None or relation is None:
        raise NotComparable(f"{table.label}: it was never synced. Run xmin-assets sync first.")
    if relation.oid != state.target_oid:
        raise NotComparable(
            f"{table.label}: the target {table.target_name} is another table than the one that the last sync left. "
            "Run xmin-assets sync first."
        )
    return state, relation


def _encoding(cursor: ext.cursor) -> str:
    cursor.execute("SHOW server_encoding")
    return fetch_value(cursor, str)
