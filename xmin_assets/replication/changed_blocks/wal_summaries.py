"""Which blocks were modified, as the WAL of a source has it, without a look at any table.

With ``summarize_wal`` a server keeps for each range of WAL which blocks of which relation were modified in it
(https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-WAL-SUMMARY). Summaries end at a checkpoint.
What was written since is read from the WAL itself by the extension pg_walinspect, or summarized by a checkpoint that is
ordered for it. Whatever is missing for that is said in words.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.rows import fetch_one_as, fetch_value
from xmin_assets.postgres.server import Server
from xmin_assets.replication.changed_blocks.block_ranges import NO_BLOCKS, BlockRanges, fetch_ranges
from xmin_assets.replication.changed_blocks.prerequisites import (
    WAY_TO_THE_PRESENT,
    BlockMapUnavailable,
    WalAccess,
    require_prerequisites,
    savepoint,
)
from xmin_assets.replication.changed_blocks.wal_positions import lsn_text
from xmin_assets.replication.runtime.units import bytes_text

MOST_TAIL = 256 << 20
"""WAL that is worth reading to tell which tables of many have changed, which is asked again and again."""

SUMMARY_TIMEOUT = 5.0
"""Seconds to wait for a checkpoint's summary."""

_SUMMARIZED = """
SELECT summarized_tli::int8 AS timeline, summarized_lsn - '0/0'::pg_lsn AS lsn
  FROM pg_catalog.pg_get_wal_summarizer_state()
"""

_SUMMARIES = """
SELECT start_lsn - '0/0'::pg_lsn, end_lsn - '0/0'::pg_lsn
  FROM pg_catalog.pg_available_wal_summaries()
 WHERE tli = %(timeline)s AND end_lsn > '0/0'::pg_lsn + %(start)s::numeric
 ORDER BY 1, 2
"""

_IN_SUMMARIES = """
SELECT c.relfilenode::int8, c.relblocknumber, c.is_limit_block
  FROM unnest(%(starts)s::numeric[], %(ends)s::numeric[]) AS s (start, stop),
       LATERAL pg_catalog.pg_wal_summary_contents(%(timeline)s, '0/0'::pg_lsn + s.start, '0/0'::pg_lsn + s.stop) AS c
 WHERE c.reldatabase = %(database)s AND c.relforknumber = 0 AND c.relfilenode = ANY(%(filenodes)s::oid[])
"""

# DISTINCT at once: WAL names a block as often as it was written to.
_IN_WAL = """
SELECT DISTINCT b.relfilenode::int8, b.relblocknumber::int8, false
  FROM unnest(%(wal_starts)s::numeric[], %(wal_ends)s::numeric[]) AS w (start, stop),
       LATERAL {}.pg_get_wal_block_info('0/0'::pg_lsn + w.start, '0/0'::pg_lsn + w.stop, false) AS b
 WHERE b.reldatabase = %(database)s AND b.relforknumber = 0 AND b.relfilenode = ANY(%(filenodes)s::oid[])
"""

_HAS_LIMIT = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_wal_summary_contents(
               %(timeline)s, '0/0'::pg_lsn + %(start)s::numeric, '0/0'::pg_lsn + %(stop)s::numeric) AS c
     WHERE c.reldatabase = %(database)s AND c.relforknumber = 0 AND c.relfilenode = ANY(%(filenodes)s::oid[])
       AND c.is_limit_block) AS has_limit
"""

_FILES_IN_SUMMARIES = """
SELECT c.relfilenode::int8, bool_and(s.start < t.since), max(s.stop)::int8
  FROM unnest(%(starts)s::numeric[], %(ends)s::numeric[]) AS s (start, stop)
 CROSS JOIN LATERAL pg_catalog.pg_wal_summary_contents(
           %(timeline)s, '0/0'::pg_lsn + s.start, '0/0'::pg_lsn + s.stop) AS c
  JOIN unnest(%(filenodes)s::oid[], %(since)s::numeric[]) AS t (filenode, since) ON t.filenode = c.relfilenode
 WHERE c.reldatabase = %(database)s AND c.relforknumber = 0 AND s.stop > t.since
 GROUP BY 1
"""

_FILES_IN_WAL = """
SELECT DISTINCT b.relfilenode::int8
  FROM {}.pg_get_wal_block_info('0/0'::pg_lsn + %(start)s::numeric, '0/0'::pg_lsn + %(stop)s::numeric, false) AS b
  JOIN unnest(%(filenodes)s::oid[], %(since)s::numeric[]) AS t (filenode, since) ON t.filenode = b.relfilenode
 WHERE b.reldatabase = %(database)s AND b.relforknumber = 0 AND b.start_lsn >= '0/0'::pg_lsn + t.since
"""

_LOGGED = (
    "SELECT relfilenode::int8 FROM pg_catalog.pg_class WHERE relfilenode = ANY(%s::oid[]) AND relpersistence = 'p'"
)


@dataclass(frozen=True)
class Wal:
    """The source's WAL, asked about some relations."""

    cursor: ext.cursor
    server: Server
    filenodes: list[int]
    inspector: str | None

    def ranges(self, start: int, summarized: int, stop: int, most_blocks: float) -> tuple[BlockRanges, int]:
        """Return the blocks that were modified between two positions, and the bytes of WAL read.

        Args:
            start: of the map.
            summarized: where the summaries end, or the map, if it ends before.
            stop: where the map ends.
            most_blocks: see `fetch_ranges`.

        Raises:
            BlockMapUnavailable: they cannot be found.
        """
        assert self.server.timeline is not None  # a prerequisite
        summaries: list[tuple[int, int]] = []
        wal: list[tuple[int, int]] = []
        if start < summarized:
            summaries = _covering(self.cursor, self.server.timeline, start, summarized)
            first = summaries[0]
            # A file that is made has a limit, too. In a summary that begins before the map, it may be older.
            if first[0] < start and self.inspector is not None and self._has_limit(first):
                summaries = summaries[1:]
                wal.append((start, first[1]))
        if summarized < stop:
            wal.append((max(start, summarized), stop))
        found = self._read(summaries, wal, most_blocks)
        if found.has_limit:
            raise BlockMapUnavailable(
                "the table was truncated by a vacuum, and summaries do not tell what was beyond its new end"
            )
        return found, sum(end - begin for begin, end in wal)

    def _has_limit(self, summary: tuple[int, int]) -> bool:
        self.cursor.execute(_HAS_LIMIT, {**self._about, "start": summary[0], "stop": summary[1]})
        return fetch_value(self.cursor, bool)

    def _read(
        self, summaries: Sequence[tuple[int, int]], wal: Sequence[tuple[int, int]], most_blocks: float
    ) -> BlockRanges:
        modified: list[sql.Composable] = []
        values = self._about
        if summaries:
            modified.append(sql.SQL(_IN_SUMMARIES))
            values |= {"starts": [begin for begin, _ in summaries], "ends": [end for _, end in summaries]}
        if wal:
            assert self.inspector is not None
            modified.append(sql.SQL(_IN_WAL).format(sql.Identifier(self.inspector)))
            values |= {"wal_starts": [begin for begin, _ in wal], "wal_ends": [end for _, end in wal]}
        if not modified:
            return NO_BLOCKS
        return fetch_ranges(self.cursor, sql.SQL("UNION ALL").join(modified), values, most_blocks)

    @property
    def _about(self) -> dict[str, object]:
        return {
            "timeline": self.server.timeline,
            "database": self.server.database_oid,
            "filenodes": self.filenodes,
        }


def _covering(cursor: ext.cursor, timeline: int, start: int, stop: int) -> list[tuple[int, int]]:
    """Return summaries that cover a range of WAL without a gap."""
    cursor.execute(_SUMMARIES, {"timeline": timeline, "start": start})
    chosen: list[tuple[int, int]] = []
    reached = start
    for first, last in cursor.fetchall():
        if reached >= stop or first > reached:
            break
        chosen.append((int(first), int(last)))
        reached = max(reached, int(last))
    if reached < stop:
        raise BlockMapUnavailable(f"the WAL since {lsn_text(reached)} is in no summary (see wal_summary_keep_time)")
    return chosen


class _Summarized(NamedTuple):
    """How far the server has summarized WAL."""

    timeline: int
    lsn: Decimal | None
    """In bytes."""


@dataclass(frozen=True)
class UnsummarizedWal:
    """The WAL after the last summary."""

    cursor: ext.cursor
    timeline: int
    access: WalAccess

    def cost(self, start: int, stop: int) -> int:
        """Return bytes of WAL that would be read.

        Raises:
            BlockMapUnavailable: it cannot be read, nor summarized.
        """
        summarized = self.summarized()
        _covering(self.cursor, self.timeline, start, min(summarized, stop))
        return self._left(start, summarized, stop)

    def reach(self, start: int, stop: int) -> int:
        """Return how far the summaries go, up to the end of the map; order a checkpoint if that is the way.

        Raises:
            BlockMapUnavailable: as `cost` does.
        """
        summarized = self.summarized()
        self._left(start, summarized, stop)
        if summarized >= stop or self.access.inspector is not None:
            return min(summarized, stop)
        self.cursor.execute("CHECKPOINT")
        deadline = time.monotonic() + SUMMARY_TIMEOUT
        while (summarized := self.summarized()) < stop:
            if time.monotonic() > deadline:
                raise BlockMapUnavailable(f"no summary came within {SUMMARY_TIMEOUT:.0f} s after a checkpoint")
            time.sleep(0.01)
        return stop

    def _left(self, start: int, summarized: int, stop: int) -> int:
        if summarized >= stop:
            return 0
        if self.access.inspector is not None:
            return stop - max(start, summarized)
        if self.access.checkpoint:
            return 0
        raise BlockMapUnavailable(WAY_TO_THE_PRESENT.reason)

    def summarized(self) -> int:
        """Return how far the summaries go.

        Raises:
            BlockMapUnavailable: there are none of this timeline.
        """
        self.cursor.execute(_SUMMARIZED)
        reached = fetch_one_as(self.cursor, _Summarized)
        if reached.timeline != self.timeline or not reached.lsn:
            raise BlockMapUnavailable(f"nothing of timeline {self.timeline} is summarized yet")
        return int(reached.lsn)


def changed_files(cursor: ext.cursor, server: Server, since: Mapping[int, int]) -> dict[int, bool]:
    """Return whether relations have blocks that were modified since a position, one for each; no relation is touched.

    Args:
        cursor: at the source, in no transaction whose snapshot matters.
        server: observed before.
        since: WAL positions by relfilenode.

    Returns:
        An answer for each file that is one of a logged relation.

    Raises:
        BlockMapUnavailable: it cannot be found.
    """
    access = require_prerequisites(cursor, server, (), checkpoint=False)
    cursor.execute(_LOGGED, ([*since],))
    since = {filenode: since[filenode] for (filenode,) in cursor.fetchall()}
    if not since:
        return {}
    with savepoint(cursor):
        changed = _changed_files(cursor, server, since, access)
    return {filenode: filenode in changed for filenode in since}


def _changed_files(cursor: ext.cursor, server: Server, since: Mapping[int, int], access: WalAccess) -> set[int]:
    assert server.lsn is not None  # a prerequisite
    assert server.timeline is not None
    first, stop = min(since.values()), server.lsn
    about = {
        "timeline": server.timeline,
        "database": server.database_oid,
        "filenodes": [*since],
        "since": [*since.values()],
    }

    def in_wal(start: int, end: int) -> set[int]:
        if access.inspector is None:
            raise BlockMapUnavailable(WAY_TO_THE_PRESENT.reason)
        if end - start > MOST_TAIL:
            raise BlockMapUnavailable(f"{bytes_text(end - start)} of WAL are too many to read")
        cursor.execute(
            sql.SQL(_FILES_IN_WAL).format(sql.Identifier(access.inspector)), about | {"start": start, "stop": end}
        )
        return {filenode for (filenode,) in cursor.fetchall()}

    summarized = min(UnsummarizedWal(cursor, server.timeline, access).summarized(), stop)
    changed: set[int] = set()
    if first < summarized:
        starts, ends = zip(*_covering(cursor, server.timeline, first, summarized), strict=True)
        cursor.execute(_FILES_IN_SUMMARIES, about | {"starts": [*starts], "ends": [*ends]})
        maybe: dict[int, int] = {}
        for filenode, only_around, end in cursor.fetchall():
            if only_around and access.inspector is not None and end - since[filenode] <= MOST_TAIL:
                maybe[filenode] = end  # what the summary is about may have been before
            else:
                changed.add(filenode)
        if maybe:
            changed |= in_wal(min(since[filenode] for filenode in maybe), max(maybe.values())) & maybe.keys()
    if summarized < stop:
        changed |= in_wal(max(first, summarized), stop)
    return changed
