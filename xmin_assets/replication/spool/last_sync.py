"""What a table's last sync left for those who may not connect: its columns, its key, its watermark.

Dagster loads its definitions without a connection, and shows a table's columns all the same. The files are in the
user's cache, not in the spool, which may be an object store: to read one from there is to connect. No decision rests
on them. They may be missing, or of another release, and what the next sync resumes from is in the target.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone

from xmin_assets.config import ReplicationConfig, TableConfig
from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.serialization import from_json, to_json
from xmin_assets.replication.manifests.table import NO_COMMENTS, Comments, Selection
from xmin_assets.replication.spool.spool import Spool, cache_folder

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LastSync:
    """What is known of a table since its last merge."""

    selection: Selection
    rows: int
    """Rows that the target shares with the source."""
    watermark: int
    at: datetime
    comments: Comments = NO_COMMENTS


def remember(target: Database, staged: StagedTable, merged: MergedTarget) -> None:
    """Leave what this sync knows of its table, for `recall`. A sync that is merged does not fail for it."""
    planned = staged.extract.snapshot.asked_for
    known = LastSync(
        planned.target_selection, merged.rows, merged.watermark, datetime.now(timezone.utc), planned.comments
    )
    try:
        folder = _folder()
        folder.make_folder(folder.root)
        folder.replace(folder.root / _name(str(target), planned.config), to_json(known))
    except XminAssetsError:
        _log.debug("%s: what this sync knows was not written", planned.table, exc_info=True)


def recall(config: ReplicationConfig) -> dict[TableConfig, LastSync]:
    """Return the last sync of each table, as far as this user ran one on this machine."""
    found: dict[TableConfig, LastSync] = {}
    try:
        folder = _folder()
        place = str(Database(config.target_url(), "target"))
    except XminAssetsError:
        return found
    for table in config.tables:
        with suppress(XminAssetsError), folder.read(str(folder.root / _name(place, table))) as file:
            found[table] = from_json(LastSync, file.read())
    return found


def _folder() -> Spool:
    """Open the folder of these files, by the rules of a spool's: private, and no links."""
    return Spool(cache_folder("tables"))


def _name(target: str, table: TableConfig) -> str:
    """Return a file name that belongs to one table in one target database: deployments may share a user."""
    exact = "\0".join((target, str(table.source_name), str(table.target_name)))
    return f"{hashlib.sha256(exact.encode()).hexdigest()[:16]}.json"
