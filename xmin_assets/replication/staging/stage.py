"""The third station: the extract's files, loaded into a table of the target database and checked there.

The staged table's name stands for the target table, so that a crashed sync's leftovers are replaced by the next
one; its comment carries the sync_id, so that a merge never takes another sync's rows.
"""

from __future__ import annotations

import time

from xmin_assets.config import Mode, Settings
from xmin_assets.postgres.connection import Database
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.merge import StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.runtime.progress import ProgressCallback, ignore_progress
from xmin_assets.replication.schema.type_making import ensure_types
from xmin_assets.replication.spool.spool import PART_BYTES, Spool
from xmin_assets.replication.staging.loader import StagedTableLoader


def stage(
    target: Database,
    extract: CsvExtract,
    spool: Spool,
    settings: Settings,
    *,
    loader: StagedTableLoader | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> StagedTable:
    """Load the extract's files in parallel, check counts and keys, and let the planner know the result.

    Args:
        target: the target database.
        extract: what to load.
        spool: where its files are.
        settings: workers and limits.
        loader: one that has loaded files of this extract already.
        on_progress: called with every file, from several threads.

    Raises:
        DataInvalid: keys repeat or are NULL, or the rows loaded are not the rows extracted.
        StaleExtract: a file is gone, or another sync of the same table has taken the staged table over.
        XminAssetsError: the target failed.
    """
    began = time.monotonic()
    snapshot = extract.snapshot
    whole = snapshot.plan.create_target or snapshot.plan.mode is Mode.FULL_SYNC
    nothing = not whole and not extract.rows and extract.key_parts is None
    types = loader.types if loader else None
    if not loader and (not nothing or snapshot.plan.statements or snapshot.closes):
        types = ensure_types(target, snapshot)
    if nothing:
        return StagedTable(
            extract, name=None, keys_name=None, rows=0, keys=0, seconds=time.monotonic() - began, types=types
        )
    with loader or StagedTableLoader(target, snapshot, spool, settings, on_progress, types=types) as used:
        if not loader:
            used.create()
        rows, keys = used.complete(extract)
    return StagedTable(
        extract=extract,
        name=used.name,
        keys_name=used.keys_name if extract.key_parts is not None else None,
        rows=rows,
        keys=keys,
        seconds=time.monotonic() - began,
        types=types,
        target_started=used.target_started,
    )


def loads_during_extract(snapshot: SourceSnapshot) -> bool:
    """Return whether files are worth loading while others are still written."""
    whole = snapshot.plan.create_target or snapshot.plan.mode is Mode.FULL_SYNC
    return whole and snapshot.load is None and snapshot.bytes > 2 * PART_BYTES
