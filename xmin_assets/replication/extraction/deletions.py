"""Whether and how an extract looks for rows that were deleted at the source."""

from __future__ import annotations

from xmin_assets.config import Mode
from xmin_assets.postgres.connection import Database
from xmin_assets.replication.extraction.new_keys import count_new_keys
from xmin_assets.replication.extraction.table_reader import ReadWorker, TableReader
from xmin_assets.replication.manifests.operations import names_before
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.runtime.snapshot_workers import SnapshotWorkers

PROBE_SHARE = 0.25
"""Changed rows, as a share of all, up to which asking the target which are new is cheaper than copying all keys."""


def deleted_rows(known: int, present: int, new: int) -> int:
    """Return how many of the rows that the target has were deleted at the source.

    A row version below the watermark that is visible now was visible to the last sync, too: its transaction was
    finished then, and nobody has deleted it since. So the target has the keys of all unchanged rows, and those of the
    changed rows that are not new; what it has beyond these was deleted. With U unchanged and C changed rows,
    present = U + C and known = U + (C - new) + deleted.

    A key must stand for one row, or the counts are not those of the keys.

    Args:
        known: rows that the target shared with the source after the last sync.
        present: rows at the source now.
        new: changed rows whose key the target does not have.

    Returns:
        The number of deleted rows. Below 0 the premise is broken: somebody wrote to the target, or rows entered the
        where clause without being written to.
    """
    return known - present + new


def needs_keys(reader: TableReader, pool: SnapshotWorkers[ReadWorker], target: Database | None) -> bool:
    """Return whether rows were deleted that the target still has, or may have been; or one may repeat another's key."""
    snapshot, state = reader.snapshot, reader.snapshot.state
    if snapshot.plan.mode is Mode.FULL_SYNC or state is None:
        return False  # a full extract brings all keys with its rows
    if reader.changed_rows and not snapshot.target_selection.unique_key:
        return True  # also where deleted rows are not looked for: what repeats a key would overwrite the other row
    if not looks_for_deletes(snapshot):
        return False
    if snapshot.plan.mode is Mode.INCREMENTAL_SYNC:
        return True  # an unchanged cursor proves nothing, so nothing can be reckoned
    changed, present = reader.changed_rows, reader.source_rows
    if not changed:
        return deleted_rows(state.rows, present, 0) != 0
    if target is None or changed > PROBE_SHARE * present or _has_other_names(snapshot):
        return True
    new = count_new_keys(target, snapshot, reader.copy_changed_keys(pool), reader.spool)
    return deleted_rows(state.rows, present, new) != 0


def _has_other_names(snapshot: SourceSnapshot) -> bool:
    """Return whether the target cannot be asked for keys, because until the merge its columns have other names."""
    names = (*snapshot.target_selection.key, snapshot.target_selection.deleted_at_column)
    return names_before(names, snapshot.plan.column_operations) != names


def looks_for_deletes(snapshot: SourceSnapshot) -> bool:
    """Return whether rows that were deleted at the source are looked for."""
    return snapshot.plan.find_deletes and snapshot.target_selection.deletes.detects
