"""Which tables may have changed since their last merged sync. Pure: from what a probe has seen to a reason in words.

No row is read. Beside each request of a sync the fingerprint is kept that the table had *before* the sync began, as a
`SyncRequest`. A table is left alone only while its fingerprint is the same and a sync that was planned later has been
merged. Nothing is lost for good:

- A transaction is visible before its counters are reported (`pgstat_report_stat` is called after it has ended). So the
  sync that is requested now sees all that is counted now. What is counted later makes another fingerprint: up to ten
  seconds after the commit, or when the transaction ends with which the session has gone on. Before PostgreSQL 15 a
  session that goes idle within half a second of its last report tells of the rest when it goes on, or ends.
- Fingerprints are compared for being the same, not for being more. Counters that were reset, by a person or by a crash,
  make another one, for the times of these resets are part of it.
- A sync that failed, or was planned before the counters were read, does not count: the state's revision must have
  moved, and its watermark must have reached the id that was the source's next one when the counters were read. So a
  table whose sync was held back by an open transaction is synced again when that has ended, counted or not.
- What no counter shows (a session that counts nothing, because a superuser set track_counts off in it) comes with the
  table's next change, and after `TRUSTED` or `TRUSTED_IF_LATE` in any case, unless not a single transaction has begun
  since.

A table without a block that was modified has not changed, whatever is not counted; and where nothing is counted, one
that has such blocks is known from the others.

A view has no counters, and is always synced; a materialized view is like a table. A standby counts only what is done on
itself, which is nothing: there, and where track_counts is off, any new WAL may be a change of any table.
"""

from __future__ import annotations

from dataclasses import dataclass

from xmin_assets.config import TableConfig, duration
from xmin_assets.replication.table_fingerprints import LastMerge, SourceProbe, TableFingerprint

TRUSTED = 6 * 3600
"""Seconds after a merge for which the counters are believed that nothing has changed since."""

TRUSTED_IF_LATE = 600
"""The same where a session that is idle may keep to itself what it has counted."""

HELD_BACK_PAUSE = 600
"""Seconds between two syncs of a table while the transaction that held the first one back is still open."""


@dataclass(frozen=True)
class SyncRequest:
    """What is remembered of the last request to sync a table."""

    fingerprint: TableFingerprint
    """As it was seen before the sync began."""
    next_xid: int
    """As in the look that first saw this mark."""
    revision: int
    """Of the state when the sync was requested; 0 if there was none."""
    at: float
    """When it was requested, in seconds since 1970."""
    repeats: int = 0
    """Requests before this one since the state's revision has last moved."""


def sync_reason(table: TableConfig, probed: SourceProbe, requested: SyncRequest | None) -> str | None:
    """Return why the table must be synced, in words; None if it need not.

    Args:
        table: one that the look was at.
        probed: the look.
        requested: what is remembered of the last request to sync the table; None if nothing is.
    """
    merged = probed.merged.get(table)
    if merged is None:
        return "it was never synced"
    if not merged.in_place:
        return "the target table is gone, or another one has its name"
    if merged.resync:
        return merged.resync
    if requested is None:
        return "nothing is remembered of what it looked like"
    changed = probed.changed.get(table)
    if said := _difference(requested.fingerprint, probed.fingerprints[table], probed.counted, changed):
        return said
    if merged.revision == requested.revision:
        return "the sync that was requested has not been merged"
    if table in probed.views:
        return "a view does not tell whether it has changed"
    return _needs_recheck(table, probed, merged, requested)


def _difference(before: TableFingerprint, now: TableFingerprint, counted: bool, changed: bool | None) -> str | None:
    if now == before:
        return None
    if now.configuration != before.configuration:
        return "its configuration was changed"
    if not now.storage:
        return "there is no such table at the source"
    if now.server != before.server:
        return "the source was restarted, or its counters were reset"
    if now.columns != before.columns:
        return "its columns or their types were changed"
    if now.storage != before.storage:
        return "it was truncated, rewritten or recreated, or has other partitions"
    if counted:
        return "rows were inserted, updated or deleted"
    if changed is None:
        return "the source has new WAL, and does not count rows"
    return "blocks of it were modified" if changed else None


def _needs_recheck(table: TableConfig, probed: SourceProbe, merged: LastMerge, requested: SyncRequest) -> str | None:
    """Return why a table must be synced that looks like when the last sync was requested."""
    age = (probed.at - merged.merged_at).total_seconds()
    unchanged = probed.changed.get(table) is False
    # While the horizon stands still, so does the transaction that holds it, and what others did is counted.
    held_back = merged.watermark < requested.next_xid and (probed.horizon > merged.watermark or age >= HELD_BACK_PAUSE)
    if held_back and not unchanged:
        return "a transaction that was open during its last sync may have changed it"
    compared = merged.deletes_compared_at
    if (
        table.delete_interval is not None
        and compared is not None
        and compared < merged.merged_at
        and (probed.at - compared).total_seconds() >= table.delete_interval
    ):
        return "deleted rows have not been looked for by its last sync, and it is time to"
    # The clock of who merged may go before this one.
    trusted = TRUSTED_IF_LATE if probed.counted_late else TRUSTED
    if not unchanged and abs(age) >= trusted and (not probed.next_xid or merged.watermark < probed.next_xid):
        return f"its last sync was {duration(abs(age))} ago, and the counters are not believed for longer"
    return None


def next_request(table: TableConfig, probed: SourceProbe, requested: SyncRequest | None) -> SyncRequest:
    """Return what is to be remembered when a sync of the table is requested after this look.

    Args:
        table: one that the look was at.
        probed: the look.
        requested: what is remembered of the request before; None if nothing is.
    """
    merged, fingerprint = probed.merged.get(table), probed.fingerprints[table]
    revision = merged.revision if merged else 0
    # A mark that was seen before needs no later watermark than then: else a busy source would never let a table rest.
    known = requested is not None and requested.fingerprint == fingerprint
    return SyncRequest(
        fingerprint=fingerprint,
        next_xid=requested.next_xid if requested is not None and known else probed.next_xid,
        revision=revision,
        at=probed.at.timestamp(),
        repeats=requested.repeats + 1 if requested is not None and requested.revision == revision else 0,
    )
