"""What crashed syncs have left: staged tables in the target and files in the spool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from psycopg2 import sql

from xmin_assets.config import ReplicationConfig, load_config
from xmin_assets.postgres.rows import fetch_as
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.runtime.databases import open_target
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.spool.sync_id import age_of
from xmin_assets.replication.staging.staged_table import COMMENT_PREFIX
from xmin_assets.replication.state.loads import forget_load, loads_of
from xmin_assets.replication.state.migrations import SCHEMA

_STAGED = """
SELECT c.relname::text AS name, pg_catalog.obj_description(c.oid, 'pg_class') AS comment
  FROM pg_catalog.pg_class c
 WHERE c.relnamespace = pg_catalog.to_regnamespace('xmin_assets') AND c.relkind = 'r'
   AND pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), %s)
 ORDER BY 1
"""


class _Staged(NamedTuple):
    name: str
    comment: str


@dataclass(frozen=True)
class CleanReport:
    """What was removed."""

    staged_tables: tuple[str, ...]
    spool: tuple[str, ...]


def clean(config: ReplicationConfig | None = None, *, older_than: float = 86400.0) -> CleanReport:
    """Remove what syncs that began more than `older_than` seconds ago have left behind.

    A sync that is still running and older than that fails and changes nothing; the next one starts afresh. A load by
    chunks is as old as its last step forward.

    Raises:
        XminAssetsError: the configuration is wrong, or the target or the spool failed.
    """
    config = config or load_config()
    spool = Spool.open(config.settings)
    dropped = []
    with open_target(config) as target, transaction_on(target, TransactionMode.WRITE, "Cleaning the target") as cursor:
        cursor.execute(_STAGED, (COMMENT_PREFIX,))
        staged = list(fetch_as(cursor, _Staged))
        loads = {load.load_table: load for load in loads_of(cursor)}
        for name, comment in staged:
            load = loads.get(name)
            age = load.idle_seconds if load else age_of(comment.removeprefix(COMMENT_PREFIX))
            if age >= older_than:
                if load:
                    forget_load(cursor, load.target)
                cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(SCHEMA, name)))
                dropped.append(f"{SCHEMA}.{name}")
    removed = []
    for sync_id, age in spool.syncs():
        if age >= older_than:
            spool.remove(sync_id)
            removed.append(str(spool.sync_folder(sync_id)))
    return CleanReport(tuple(dropped), tuple(removed))
