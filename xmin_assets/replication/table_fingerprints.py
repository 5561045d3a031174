"""What the tables look like at both sides without reading them, by one query at the source and one at the target.

A fingerprint is made of the server's counters of a table's rows, of where its rows are stored, and of its columns. It
consists of digests: only whether two are equal means something
(https://www.postgresql.org/docs/current/monitoring-stats.html).

Where the source summarizes its WAL, that also shows for all tables at once which have blocks that were modified since
the position from which their next sync would look (see `block_map`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import ReplicationConfig, TableConfig
from xmin_assets.postgres import xid
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.server import FACTS, horizon, observe_server, wal_position
from xmin_assets.postgres.server_facts import Fact, ask, refused
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.postgres.types import FIRST_OWN_OID
from xmin_assets.replication.changed_blocks.prerequisites import BlockMapUnavailable
from xmin_assets.replication.changed_blocks.wal_positions import start_position
from xmin_assets.replication.changed_blocks.wal_summaries import changed_files
from xmin_assets.replication.manifests.state import WalPosition
from xmin_assets.replication.runtime.databases import open_databases
from xmin_assets.replication.runtime.retries import asked_again
from xmin_assets.replication.state.migrations import schema_version

STATEMENT_TIMEOUT = 15
"""Seconds that one probe may take at either side: the sensor's daemon has other things to do."""

# The functions are those of the view pg_stat_all_tables, which would also join every index.
_FINGERPRINTS = """
WITH RECURSIVE tree AS (
    SELECT a.number, c.oid, c.oid AS root, c.relkind AS kind, a.chooses
      FROM unnest(%(schemas)s::name[], %(names)s::name[], %(chooses)s::bool[])
           WITH ORDINALITY AS a (schema, name, chooses, number)
      JOIN pg_catalog.pg_namespace n ON n.nspname = a.schema
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = a.name
     WHERE c.relkind NOT IN ('i', 'I', 't', 'c')
     UNION
    SELECT t.number, i.inhrelid, t.root, t.kind, t.chooses
      FROM tree t
      JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid AND NOT i.inhdetachpending
), stored AS (
    SELECT t.number, t.root, t.kind, t.chooses,
           pg_catalog.string_agg(
               pg_catalog.concat_ws(' ', c.oid, c.relfilenode,
                                    -- A partition may be altered while it is detached.
                                    CASE WHEN c.oid <> t.root THEN (
                                        SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname),
                                                                     ' ' ORDER BY a.attnum)
                                          FROM pg_catalog.pg_attribute a
                                         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) END),
               ',' ORDER BY c.oid) AS storage,
           pg_catalog.string_agg(
               pg_catalog.concat_ws(' ', c.oid, {counters}),
               ',' ORDER BY c.oid) AS counts
      FROM tree t
      JOIN pg_catalog.pg_class c ON c.oid = t.oid
     GROUP BY t.number, t.root, t.kind, t.chooses
), types AS MATERIALIZED (
    -- A label or an attribute that gets another name, and what it is of, though no table's columns change.
    SELECT (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', e.oid, e.enumlabel), ',' ORDER BY e.oid)
              FROM pg_catalog.pg_enum e) AS labels,
           (SELECT pg_catalog.string_agg(
                       pg_catalog.concat_ws(' ', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod),
                       ',' ORDER BY a.attrelid, a.attnum)
              FROM pg_catalog.pg_class c
              JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE c.relkind = 'c' AND c.oid >= %(first)s) AS attributes
)
SELECT s.number::int - 1, s.kind::text,
       pg_catalog.to_hex(pg_catalog.hashtextextended(s.storage, 0)),
       pg_catalog.to_hex(pg_catalog.hashtextextended(
           (SELECT pg_catalog.string_agg(
                       pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation,
                                            CASE WHEN a.attgenerated = 'v'
                                                 THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
                                            CASE WHEN a.atttypid >= %(first)s OR s.chooses
                                                 THEN pg_catalog.concat(t.labels, ' ', t.attributes) END),
                       ',' ORDER BY a.attnum)
              FROM pg_catalog.pg_attribute a
              LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attrelid = s.root AND a.attnum > 0 AND NOT a.attisdropped), 0)),
       pg_catalog.to_hex(pg_catalog.hashtextextended(s.counts, 0))
  FROM stored s, types t
"""

_COUNTERS = sql.SQL("""
    pg_catalog.pg_stat_get_tuples_inserted(c.oid), pg_catalog.pg_stat_get_tuples_updated(c.oid),
    pg_catalog.pg_stat_get_tuples_deleted(c.oid)
""")

_UNCOUNTED = sql.SQL("''")

_LOOKS_AT_WAL = "the sensor takes every change of the source for one of each table"

COUNTER_FACTS = {
    fact.name: fact
    for fact in (
        Fact(
            "counters_reset",
            "(SELECT pg_catalog.pg_stat_get_db_stat_reset_time(d.oid)::text FROM pg_catalog.pg_database d "
            "WHERE d.datname = pg_catalog.current_database())",
            ("pg_stat_get_db_stat_reset_time(oid)",),
            "shows the sensor since when the server counts rows",
            _LOOKS_AT_WAL,
        ),
        Fact(
            "row_counters",
            "(pg_catalog.pg_stat_get_tuples_inserted(0), pg_catalog.pg_stat_get_tuples_updated(0), "
            "pg_catalog.pg_stat_get_tuples_deleted(0))::text",
            tuple(f"pg_stat_get_tuples_{what}(oid)" for what in ("inserted", "updated", "deleted")),
            "shows the sensor which tables have changed",
            _LOOKS_AT_WAL,
        ),
    )
}
"""What the sensor asks a source for, beside what a sync does."""

# Counters that a crash has thrown away have the same time of reset as the background writer's.
_SINCE = {**COUNTER_FACTS, **{name: FACTS[name] for name in ("postmaster_start", "bgwriter_reset")}}

_SERVER = sql.SQL("""
     , d.oid::int8 AS database_oid,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       pg_catalog.current_setting('track_counts')::bool AS track_counts
  FROM pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()
""")

_MERGED = """
SELECT a.number::int - 1, s.revision, s.watermark, s.resync, s.merged_at,
       (s.facts ->> 'deletes_compared_at')::timestamptz,
       s.target_oid IS NOT DISTINCT FROM c.oid,
       s.facts -> 'identity', s.facts ->> 'source_started', s.facts -> 'wal_positions'
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) WITH ORDINALITY AS a (schema, name, number)
  JOIN xmin_assets.state s ON s.target_schema = a.schema AND s.target_table = a.name
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = a.schema::name
  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = a.name::name
"""


REPORTS_WHEN_IDLE = 150000
"""server_version_num from which a session that goes idle reports what it has counted, after ten seconds at the latest
(IDLE_STATS_UPDATE_TIMEOUT in src/backend/tcop/postgres.c)."""


@dataclass(frozen=True)
class TableFingerprint:
    """What a table looks like without reading it: digests, of which only the equality means something."""

    server: str
    """Which start of which server counts, and since when."""
    configuration: str
    """How the table is to be copied."""
    storage: str = ""
    """The table and its leaf partitions, and the files that hold their rows. Empty if there is no such table."""
    columns: str = ""
    counts: str = ""
    """Rows inserted, updated and deleted so far; where these are not counted, the position in the WAL."""


@dataclass(frozen=True)
class LastMerge:
    """The last merged sync of a table, as far as it matters here."""

    revision: int
    watermark: int
    resync: str | None
    merged_at: datetime
    deletes_compared_at: datetime | None
    in_place: bool
    """Whether the target table is still the one that was merged into."""
    identity: Mapping[str, Any]
    """Of the source, as `manifest.Identity` has it."""
    source_started: str | None
    wal_positions: Sequence[Mapping[str, int]] | None
    """See `State`; None where a release before it had the field has written the state."""


@dataclass(frozen=True)
class SourceProbe:
    """One look at both sides of all tables."""

    at: datetime
    next_xid: int
    """The xid64 that the source's next transaction gets, read after the marks; 0 on a standby, which gives none."""
    horizon: int
    """Every transaction of the source below it has ended."""
    counted: bool
    """Whether the source counts rows, or only the WAL shows changes."""
    counted_late: bool
    """Whether a session that is idle may keep to itself what it has counted, for as long as it stays idle."""
    fingerprints: Mapping[TableConfig, TableFingerprint]
    views: frozenset[TableConfig]
    merged: Mapping[TableConfig, LastMerge]
    """None for a table that was never synced."""
    changed: Mapping[TableConfig, bool] = field(default_factory=dict)
    """Whether blocks of the table were modified since its last sync; only where the source's WAL shows it."""


def probe(config: ReplicationConfig) -> SourceProbe:
    """Look at both sides of every configured table.

    Raises:
        XminAssetsError: the configuration names no database, or one of them cannot be reached or asked.
    """
    settings = config.with_settings(
        statement_timeout=STATEMENT_TIMEOUT, lock_timeout=STATEMENT_TIMEOUT, workers=1
    ).settings
    with open_databases(config, settings) as (source, target):
        # The target first: a sync that is merged meanwhile is then not known of, which costs another look.
        merged = merged_syncs(target, config.tables)
        return asked_again(lambda: _probe_source(source, config.tables, merged))


def merged_syncs(target: Database, tables: Sequence[TableConfig]) -> dict[TableConfig, LastMerge]:
    """Return the last merged sync of those tables that have one."""
    with transaction_on(target, TransactionMode.READ, "Looking at the target's state") as cursor:
        if schema_version(cursor) == 0:
            return {}
        cursor.execute(_MERGED, _columns([table.target_name for table in tables]))
        return {tables[row[0]]: LastMerge(*row[1:]) for row in cursor.fetchall()}


def _probe_source(
    source: Database, tables: Sequence[TableConfig], merged: Mapping[TableConfig, LastMerge]
) -> SourceProbe:
    with transaction_on(source, TransactionMode.READ, "Looking for changes at the source") as cursor:
        told = ask(cursor, _SINCE, _SERVER)
        since = [told[name] for name in ("postmaster_start", "counters_reset", "bgwriter_reset")]
        # Counters of which nobody knows since when they count say nothing. Those of a database may never have been
        # reset.
        untold = refused(cursor) & {*_SINCE}
        counted = told["track_counts"] and not told["in_recovery"] and not untold
        names = _columns([table.source_name for table in tables])
        # A where clause may name types that no column has.
        chooses = [table.where is not None for table in tables]
        fingerprints_of = sql.SQL(_FINGERPRINTS).format(counters=_COUNTERS if counted else _UNCOUNTED)
        cursor.execute(fingerprints_of, {**names, "chooses": chooses, "first": FIRST_OWN_OID})
        found = {tables[row[0]]: row[1:] for row in cursor.fetchall()}
        # After the counters: what they count has begun before, and so has an id below the next one.
        oldest, position = horizon(cursor), None if counted else wal_position(cursor)
        next_xid = 0 if told["in_recovery"] else xid.read_next_xid(cursor, oldest)
        # A change takes a transaction id; a standby shows it when that has ended.
        wal = "" if counted else str(position) if position is not None else f"{oldest} {next_xid}"
        changed = _changed(cursor, merged)
        late = counted and cursor.connection.server_version < REPORTS_WHEN_IDLE
    fingerprints = {}
    for table in tables:
        known = TableFingerprint(
            _digest(f"{since} {told['database_oid']} {told['in_recovery']} {counted}"), _digest(table.model_dump_json())
        )
        if table in found:
            _, storage, columns, counts = found[table]
            known = TableFingerprint(known.server, known.configuration, storage, columns, counts if counted else wal)
        fingerprints[table] = known
    views = frozenset(table for table, (kind, *_) in found.items() if kind == "v")
    return SourceProbe(
        datetime.now(timezone.utc), next_xid, oldest, counted, late, fingerprints, views, merged, changed
    )


def _changed(cursor: ext.cursor, merged: Mapping[TableConfig, LastMerge]) -> dict[TableConfig, bool]:
    """Return which tables have blocks that were modified since the position where their next sync begins."""
    starts = {
        table: start
        for table, last in merged.items()
        if table.wal_summaries and (start := start_position(_positions(last), last.watermark)) is not None
    }
    if not starts:
        return {}
    server = observe_server(cursor)
    answering = (server.system_identifier, server.timeline, server.database_oid, server.started)
    files: dict[TableConfig, list[int]] = {}
    since: dict[int, int] = {}
    for table, start in starts.items():
        last = merged[table]
        origin = (last.identity.get(name) for name in ("system_identifier", "timeline", "database_oid"))
        if (*origin, last.source_started) == answering:
            files[table] = [leaf["relfilenode"] for leaf in last.identity["leaves"]]
            since |= dict.fromkeys(files[table], start)
    try:
        modified = changed_files(cursor, server, since) if since else {}
    except BlockMapUnavailable:
        return {}
    return {table: any(modified[f] for f in of) for table, of in files.items() if of and all(f in modified for f in of)}


def _positions(merged: LastMerge) -> list[WalPosition]:
    return [WalPosition(**position) for position in merged.wal_positions or ()]


def _columns(names: Sequence[QualifiedName]) -> dict[str, list[str]]:
    return {"schemas": [name.schema for name in names], "names": [name.name for name in names]}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
