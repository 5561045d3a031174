"""Whether the WAL of a source that was restarted has what the last sync saw, so that its history goes on from there.

Whatever a crash, a copy of the data directory or another server has made of the source shows in its WAL: all that the
last sync saw had ended before a position, and the last records before this one were noted then
(`postgres.wal_records`). A WAL that has the same ones there is the same up to there. In doubt nothing is proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import psycopg2.extensions as ext

from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.server import Server, started
from xmin_assets.postgres.wal_records import WalRecords, WalUnreadable, last_records, same_records
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.state import State


def note_records(cursor: ext.cursor, server: Server, position: int) -> WalRecords | None:
    """Note the WAL records before a position that covers a snapshot and is on disk.

    None where nothing can be noted: on a standby, where the server does not show its WAL, or if another start of it
    answers, whose WAL may be another one. A transaction lives within one start.

    Args:
        cursor: in a transaction.
        server: whose snapshot that was.
        position: in bytes.
    """
    if server.in_recovery or server.started is None:
        return None
    try:
        found = last_records(cursor, position)
    except WalUnreadable:
        return None
    return found if found and started(cursor) == server.started else None


def with_proof(cursor: ext.cursor, facts: SourceFacts, storage: Sequence[Storage], state: State | None) -> SourceFacts:
    """Add what the WAL of a source that was restarted since the last sync proves.

    Args:
        cursor: at the source, in a transaction of the start that the facts are of.
        facts: the source table.
        storage: the relations that hold its rows.
        state: of the target.
    """
    server = facts.server
    if state is None or None in (server.started, state.source_started) or server.started == state.source_started:
        return facts
    doubt = _doubt(cursor, server, storage, state)
    return replace(facts, proven_start=None if doubt else server.started, unproven_wal=doubt)


def _doubt(cursor: ext.cursor, server: Server, storage: Sequence[Storage], state: State) -> str | None:
    if server.in_recovery:
        return "on a standby its WAL is not looked into"
    if any(leaf.unlogged for leaf in storage):
        return "of an UNLOGGED table no WAL tells"
    noted = state.wal_records
    if noted is None or noted.stop != state.source_lsn:
        return "the last sync could note nothing of its WAL"
    try:
        same = same_records(cursor, noted)
    except WalUnreadable as reason:
        return str(reason)
    return None if same else "its WAL is another one than the last sync saw"
