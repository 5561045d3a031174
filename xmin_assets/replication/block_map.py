"""Which blocks of a table have changed since a WAL position: told by the source's WAL summaries, without the table.

With ``summarize_wal`` a server keeps for each range of WAL which blocks of which relation were modified in it
(https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-WAL-SUMMARY). Summaries end at a checkpoint.
What was written since is read from the WAL itself by the extension pg_walinspect, or summarized by a checkpoint that is
ordered for it. Whatever is missing for that is said in words, and the table is read as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.failure import one_line
from xmin_assets.postgres.server import Server, settle, settled
from xmin_assets.postgres.transaction import Isolation, transact
from xmin_assets.replication.manifest import BlockMap, BlockRange, Plan, SourceSnapshot, State
from xmin_assets.replication.scan import BLOCK_SIZE, Range
from xmin_assets.replication.units import bytes_text

MIN_VERSION = 17
"""The major version from which servers summarize WAL."""

MOST_RANGES = 1 << 16
"""Ranges that a table is read by; blocks between near ones are read along with them."""

MOST_BLOCKS = 1 << 18
"""Blocks that are read by a map, 2 GiB: the target finds the rows of each in an array of them all."""

MOST_SHARE = 0.5
"""Share of a table's blocks up to which reading those that changed is worth more than the map costs."""

LEAST_BYTES = 16 << 20
"""WAL that is worth reading for any table: it takes about 16 ms."""

PATIENCE = 5.0
"""Seconds to wait for a checkpoint's summary."""

PAIRS = 64
"""Positions that are remembered; fewer would do, were it not for transactions that stay open for days."""

_SETUP = """
SELECT pg_catalog.current_setting('summarize_wal')::bool,
       pg_catalog.current_setting('wal_level'),
       EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = ANY(%(leaves)s::oid[]) AND relpersistence <> 'p'),
       pg_catalog.has_function_privilege('pg_catalog.pg_available_wal_summaries()', 'EXECUTE')
           AND pg_catalog.has_function_privilege('pg_catalog.pg_wal_summary_contents(int8, pg_lsn, pg_lsn)', 'EXECUTE')
           AND pg_catalog.has_function_privilege('pg_catalog.pg_get_wal_summarizer_state()', 'EXECUTE'),
       (SELECT n.nspname::text
          FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pg_walinspect'),
       pg_catalog.pg_has_role('pg_checkpoint', 'USAGE')
"""
_INSPECTS = "SELECT pg_catalog.has_function_privilege(pg_catalog.format('%%I.%%s', %s, %s), 'EXECUTE')"
_BLOCK_INFO = "pg_get_wal_block_info(pg_lsn, pg_lsn, boolean)"

_SUMMARIZED = """
SELECT summarized_tli::int8, summarized_lsn - '0/0'::pg_lsn FROM pg_catalog.pg_get_wal_summarizer_state()
"""

_SUMMARIES = """
SELECT start_lsn - '0/0'::pg_lsn, end_lsn - '0/0'::pg_lsn
  FROM pg_catalog.pg_available_wal_summaries()
 WHERE tli = %(timeline)s AND end_lsn > '0/0'::pg_lsn + %(start)s::numeric
 ORDER BY 1, 2
"""

_FROM_SUMMARIES = """
SELECT DISTINCT c.relfilenode::int8, c.relblocknumber, c.is_limit_block
  FROM unnest(%(starts)s::numeric[], %(ends)s::numeric[]) AS s (start, stop),
       LATERAL pg_catalog.pg_wal_summary_contents(%(timeline)s, '0/0'::pg_lsn + s.start, '0/0'::pg_lsn + s.stop) AS c
 WHERE c.reldatabase = %(database)s AND c.relforknumber = 0 AND c.relfilenode = ANY(%(filenodes)s::oid[])
"""

_FROM_WAL = """
SELECT DISTINCT b.relfilenode::int8, b.relblocknumber::int8
  FROM {}.pg_get_wal_block_info('0/0'::pg_lsn + %(start)s::numeric, '0/0'::pg_lsn + %(stop)s::numeric, false) AS b
 WHERE b.reldatabase = %(database)s AND b.relforknumber = 0 AND b.relfilenode = ANY(%(filenodes)s::oid[])
"""


class NoMap(Exception):
    """The changed blocks cannot be told; the message says why."""


class _Truncated(NoMap):
    """A summary lacks blocks."""


@dataclass(frozen=True)
class Setup:
    """What the source offers for the WAL that is not summarized yet."""

    inspector: str | None
    """The schema of pg_walinspect, if the role may use it."""
    checkpoint: bool
    """Whether a checkpoint may be ordered."""


@dataclass(frozen=True)
class Missing:
    """Something without which a table is read whole."""

    reason: str
    advice: str
    """What to change."""


WAY_TO_THE_PRESENT = Missing(
    "WAL that is not summarized yet can be read neither by pg_walinspect nor summarized by a checkpoint",
    "At the source: CREATE EXTENSION pg_walinspect; GRANT EXECUTE ON FUNCTION pg_get_wal_block_info(pg_lsn, pg_lsn, "
    "boolean) TO the role. Or GRANT pg_checkpoint TO the role, and set checkpoint: true for the table.",
)
BLOCKS_OF_DELETED_ROWS = Missing(
    "deleted rows are looked for by their keys",
    "Set track_blocks: true for the table, which finds them by their blocks, or delete_detection: 1 hour, which looks "
    "for them less often.",
)


def add_pair(pairs: Sequence[tuple[int, int]], pair: tuple[int, int], watermark: int) -> tuple[tuple[int, int], ...]:
    """Remember a position, and forget those that no later sync can need.

    Args:
        pairs: of earlier syncs, oldest first.
        pair: a WAL position, and the next xid64 to be assigned, read after it.
        watermark: where the next sync resumes.
    """
    kept = [*pairs, pair]
    usable = [place for place, (_, following) in enumerate(kept) if following <= watermark]
    kept = kept[usable[-1] :] if usable else kept
    # What lies between may be forgotten: a map from an earlier position names the same blocks, and more.
    return tuple(kept[: PAIRS // 2] + kept[-(PAIRS // 2) :] if len(kept) > PAIRS else kept)


def start_of(state: State) -> int | None:
    """The WAL position after which every transaction at or above the watermark has written all that it wrote.

    None if no remembered position is known to be: a transaction was open then, and still is at the watermark.
    """
    return next((lsn for lsn, following in reversed(state.pairs) if following <= state.watermark), None)


def choose(
    source: Database, server: Server, table: TableConfig, storage: Sequence[Storage], plan: Plan, state: State | None
) -> Plan:
    """The plan, with where the map of the sync begins, if it can have one, and the reason in words.

    Args:
        source: the source database.
        server: observed before.
        table: the table's configuration.
        storage: the relations that hold the table's rows.
        plan: what is to be read otherwise.
        state: of the target.
    """
    try:
        start = _start(table, storage, plan, state)
        with transact(source, Isolation.READ, f"{table.label}: looking for WAL summaries") as cursor:
            setup = observe(cursor, server, table, storage)
            following = _Tail(cursor, server.timeline, setup).cost(start, server.lsn)
    except NoMap as reason:
        return replace(plan, path=scan_because(reason))
    size = max(LEAST_BYTES, sum(leaf.main_bytes for leaf in storage))
    if following > size:
        more = f"{bytes_text(following)} of WAL are more to read than the table"
        return replace(plan, path=scan_because(NoMap(more)))
    return replace(plan, map_from=start, path=f"blocks changed since WAL position {lsn_text(start)}")


def scan_because(reason: NoMap) -> str:
    """What a plan or an extract says of its path where every block is read."""
    return f"every block, because {reason}"


def _start(table: TableConfig, storage: Sequence[Storage], plan: Plan, state: State | None) -> int:
    if plan.watermark is None or state is None:
        raise NoMap("this sync is not about what changed")
    if not table.wal_summaries:
        raise NoMap("wal_summaries is off")
    if plan.checksum:
        raise NoMap("the whole copy is checked by a checksum")
    if not all(leaf.readable for leaf in storage):
        raise NoMap("the role may not read the table's partitions under their own names")
    if {(leaf.oid, leaf.relfilenode) for leaf in state.identity.leaves} != {
        (leaf.oid, leaf.relfilenode) for leaf in storage
    }:
        raise NoMap("the table has other files than at the last sync")
    if plan.find_deletes and table.deletes != "ignore" and not table.track_blocks:
        raise NoMap(BLOCKS_OF_DELETED_ROWS.reason)
    if plan.find_deletes and state.deletes_left:
        raise NoMap("the last sync did not look for deleted rows, and their blocks may be those of before")
    start = start_of(state)
    if start is None:
        raise NoMap("a transaction that was open at the last syncs may have written before them")
    return start


def observe(cursor: ext.cursor, server: Server, table: TableConfig, storage: Sequence[Storage]) -> Setup:
    """What the source offers.

    Raises:
        NoMap: not enough.
    """
    setup, missing = look(cursor, server, table, storage)
    if missing:
        raise NoMap(missing[0].reason)
    return setup


def look(
    cursor: ext.cursor, server: Server, table: TableConfig, storage: Sequence[Storage]
) -> tuple[Setup, list[Missing]]:
    """What the source offers, and all that is missing there for maps of this table."""
    major = server.version // 10000
    if major < MIN_VERSION:
        reason = f"the source is PostgreSQL {major}, and WAL summaries come with {MIN_VERSION}"
        return Setup(None, False), [Missing(reason, f"Upgrade the source to PostgreSQL {MIN_VERSION} or newer.")]
    cursor.execute(_SETUP, {"leaves": [leaf.oid for leaf in storage]})
    summarizes, level, unlogged, may_read, inspector, may_checkpoint = cursor.fetchone() or (None,) * 6
    missing = []
    if level == "minimal":
        missing.append(Missing("wal_level is minimal at the source", "Set wal_level = replica there, and restart it."))
    if not summarizes:
        missing.append(
            Missing(
                "summarize_wal is off at the source",
                "There: ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();",
            )
        )
    if not may_read:
        missing.append(
            Missing(
                "the role may not read WAL summaries",
                "At the source, grant it EXECUTE on pg_available_wal_summaries(), pg_wal_summary_contents(bigint, "
                "pg_lsn, pg_lsn) and pg_get_wal_summarizer_state().",
            )
        )
    if unlogged:
        missing.append(
            Missing("the table is UNLOGGED, so no WAL tells of it", "ALTER TABLE ... SET LOGGED, if it may be so.")
        )
    if inspector is not None:
        cursor.execute(_INSPECTS, (inspector, _BLOCK_INFO))
        inspector = inspector if cursor.fetchone() == (True,) else None
    # On a standby it would be a restartpoint, and summaries end where the primary's checkpoints do.
    return Setup(inspector, bool(may_checkpoint) and table.checkpoint and not server.in_recovery), missing


def read(
    cursor: ext.cursor,
    server: Server,
    table: TableConfig,
    storage: Sequence[Storage],
    start: int,
    stop: int,
) -> BlockMap:
    """The blocks that were modified between two WAL positions, and perhaps some more.

    Args:
        cursor: at the source, in the extract's transaction: what goes wrong is rolled back to a savepoint.
        server: observed before.
        table: the table's configuration.
        storage: the relations that hold the table's rows, locked.
        start: see `start_of`.
        stop: read after the snapshot was taken, and flushed.

    Raises:
        NoMap: they cannot be told, or are too many.
    """
    began = time.monotonic()
    with _savepoint(cursor):
        setup = observe(cursor, server, table, storage)
        summarized = _Tail(cursor, server.timeline, setup).reach(start, stop)
        wal = _Wal(cursor, server, [leaf.relfilenode for leaf in storage], setup.inspector)
        found, wal_bytes = wal.blocks(start, summarized, stop)
    ranges = ranges_of(found)
    to_read, in_all = sum(r.end - r.start for r in ranges), sum(leaf.main_bytes // BLOCK_SIZE for leaf in storage)
    if to_read > min(MOST_BLOCKS, MOST_SHARE * in_all):
        raise NoMap(f"{len(found):,} of its {in_all:,} blocks changed")
    return BlockMap(ranges, len(found), in_all, wal_bytes, time.monotonic() - began)


@contextmanager
def _savepoint(cursor: ext.cursor) -> Iterator[None]:
    """Whatever is refused, the transaction goes on; it is not left in a subtransaction, from which none can export."""
    cursor.execute("SAVEPOINT block_map")
    try:
        yield
    except psycopg2.Error as error:
        if error.pgcode is None:
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT block_map; RELEASE SAVEPOINT block_map")
        raise NoMap(f"the source refuses to tell which blocks changed: {one_line(error)}") from None
    except NoMap:
        cursor.execute("RELEASE SAVEPOINT block_map")
        raise
    cursor.execute("RELEASE SAVEPOINT block_map")


@dataclass(frozen=True)
class _Wal:
    """The source's WAL, asked about some relations."""

    cursor: ext.cursor
    server: Server
    filenodes: list[int]
    inspector: str | None

    def blocks(self, start: int, summarized: int, stop: int) -> tuple[set[tuple[int, int]], int]:
        """Files and numbers of the blocks that were modified between two positions, and bytes of WAL read for it.

        Args:
            start: of the map.
            summarized: where the summaries end, or the map, if it ends before.
            stop: where the map ends.

        Raises:
            NoMap: they cannot be told.
        """
        found: set[tuple[int, int]] = set()
        read = 0
        if start < summarized:
            first, *others = _covering(self.cursor, self.server.timeline, start, summarized)
            found |= self._in_summaries(others)
            try:
                found |= self._in_summaries([first])
            except _Truncated:
                # A file that is made has such an entry, too. In a summary that begins before the map, it may be older.
                if first[0] >= start or self.inspector is None:
                    raise
                found |= self._in_wal(start, first[1])
                read += first[1] - start
        if summarized < stop:
            found |= self._in_wal(max(start, summarized), stop)
            read += stop - max(start, summarized)
        return found, read

    def _in_summaries(self, summaries: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        if not summaries:
            return set()
        starts, ends = zip(*summaries, strict=True)
        self.cursor.execute(
            _FROM_SUMMARIES,
            {**self._about, "timeline": self.server.timeline, "starts": [*starts], "ends": [*ends]},
        )
        rows = self.cursor.fetchall()
        if any(limit for _, _, limit in rows):
            raise _Truncated(
                "the table was truncated by a vacuum, and summaries do not tell what was beyond its new end"
            )
        return {(filenode, block) for filenode, block, _ in rows}

    def _in_wal(self, start: int, stop: int) -> set[tuple[int, int]]:
        assert self.inspector is not None
        statement = sql.SQL(_FROM_WAL).format(sql.Identifier(self.inspector))
        self.cursor.execute(statement, {**self._about, "start": start, "stop": stop})
        return {(filenode, block) for filenode, block in self.cursor.fetchall()}

    @property
    def _about(self) -> dict[str, object]:
        return {"database": self.server.database_oid, "filenodes": self.filenodes}


def _covering(cursor: ext.cursor, timeline: int, start: int, stop: int) -> list[tuple[int, int]]:
    """Summaries that cover a range of WAL without a gap."""
    cursor.execute(_SUMMARIES, {"timeline": timeline, "start": start})
    chosen: list[tuple[int, int]] = []
    reached = start
    for first, last in cursor.fetchall():
        if reached >= stop:
            break
        if first > reached:
            break
        chosen.append((int(first), int(last)))
        reached = max(reached, int(last))
    if reached < stop:
        raise NoMap(f"the WAL since {lsn_text(reached)} is in no summary (see wal_summary_keep_time)")
    return chosen


@dataclass(frozen=True)
class _Tail:
    """The WAL after the last summary."""

    cursor: ext.cursor
    timeline: int
    setup: Setup

    def cost(self, start: int, stop: int) -> int:
        """Bytes of WAL that would be read.

        Raises:
            NoMap: it cannot be read, nor summarized.
        """
        summarized = self._summarized()
        _covering(self.cursor, self.timeline, start, min(summarized, stop))
        return self._left(start, summarized, stop)

    def reach(self, start: int, stop: int) -> int:
        """How far the summaries go, up to the end of the map; after a checkpoint if that is the way.

        Raises:
            NoMap: as `cost` does.
        """
        summarized = self._summarized()
        self._left(start, summarized, stop)
        if summarized >= stop or self.setup.inspector is not None:
            return min(summarized, stop)
        self.cursor.execute("CHECKPOINT")
        deadline = time.monotonic() + PATIENCE
        while (summarized := self._summarized()) < stop:
            if time.monotonic() > deadline:
                raise NoMap(f"no summary came within {PATIENCE:.0f} s after a checkpoint")
            time.sleep(0.01)
        return stop

    def _left(self, start: int, summarized: int, stop: int) -> int:
        if summarized >= stop:
            return 0
        if self.setup.inspector is not None:
            return stop - max(start, summarized)
        if self.setup.checkpoint:
            return 0
        raise NoMap(WAY_TO_THE_PRESENT.reason)

    def _summarized(self) -> int:
        self.cursor.execute(_SUMMARIZED)
        timeline, lsn = self.cursor.fetchone() or (0, None)
        if timeline != self.timeline or not lsn:
            raise NoMap(f"nothing of timeline {self.timeline} is summarized yet")
        return int(lsn)


def attempt(
    cursor: ext.cursor, planned: SourceSnapshot, server: Server, storage: Sequence[Storage], position: int, since: float
) -> tuple[BlockMap | None, str]:
    """The map of an extract, if it can have one; and which blocks are read, in words.

    Args:
        cursor: in the extract's transaction.
        planned: the sync.
        server: observed before the snapshot was taken.
        storage: the relations that hold the table's rows, locked.
        position: `server.wal_position`, read after the snapshot was taken.
        since: monotonic time in seconds of that reading.
    """
    start = planned.plan.map_from
    if start is None:
        return None, planned.plan.path
    try:
        settle(cursor, position, since)
        if settled(cursor, position) is None:  # WAL is read as far as it is on disk, and no word is said of the rest
            raise NoMap("what the snapshot shows is not on the source's disk yet")
        made = read(cursor, server, planned.config, storage, start, position)
    except NoMap as reason:
        return None, scan_because(reason)
    return made, f"{made.changed:,} of {made.in_all:,} blocks: those changed since WAL position {lsn_text(start)}"


def spans_of(found: BlockMap, storage: Sequence[Storage]) -> list[Range]:
    """The ranges of a map, as they are read."""
    leaves = {leaf.relfilenode: leaf for leaf in storage}
    return [Range(leaves[r.filenode], r.start, r.end, r.end - r.start) for r in found.ranges]


def ranges_of(blocks: Iterable[tuple[int, int]]) -> tuple[BlockRange, ...]:
    """Blocks as ranges, by file and in order: as many as may be, and blocks between near ones for the rest.

    Args:
        blocks: pairs of a relfilenode and a block number.
    """
    ordered = sorted(blocks)
    gaps = sorted(b[1] - a[1] for a, b in pairwise(ordered) if a[0] == b[0])
    apart = gaps[-MOST_RANGES] if len(gaps) >= MOST_RANGES else 1
    ranges: list[BlockRange] = []
    for filenode, of_file in groupby(ordered, key=lambda block: block[0]):
        for _, block in of_file:
            last = ranges[-1] if ranges and ranges[-1].filenode == filenode else None
            if last and block - (last.end - 1) <= apart:
                ranges[-1] = BlockRange(filenode, last.start, block + 1)
            else:
                ranges.append(BlockRange(filenode, block, block + 1))
    return tuple(ranges)


def lsn_text(position: int) -> str:
    """A WAL position as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
