"""Which of the changed rows the target does not have yet."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2 import sql

from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.copy import copy_in
from xmin_assets.postgres.key_equality import same_key
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.manifests.extract import Part
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.runtime.rate_limit import paced
from xmin_assets.replication.schema.metadata_columns import not_deleted
from xmin_assets.replication.schema.table_definition import column_definitions
from xmin_assets.replication.schema.type_making import ensure_types
from xmin_assets.replication.spool.spool import Spool


def count_new_keys(target: Database, snapshot: SourceSnapshot, parts: Sequence[Part], spool: Spool) -> int:
    """Count the keys in the files that no live row of the target has. Nothing is left in the target.

    Raises:
        XminAssetsError: the target or the spool failed.
    """
    ensure_types(target, snapshot)
    selection = snapshot.target_selection
    keys = sql.Identifier("pg_temp", "xmin_assets_changed_keys")
    with transaction_on(target, TransactionMode.WRITE, f"{snapshot.table}: looking for new keys") as cursor:
        cursor.execute(
            sql.SQL("CREATE TEMPORARY TABLE xmin_assets_changed_keys ({}) ON COMMIT DROP").format(
                sql.SQL(", ").join(column_definitions(selection.key_columns))
            )
        )
        for part in parts:
            with spool.read(part.uri) as file:
                copy_in(cursor, keys, selection.key, paced(file, target.budget))
        cursor.execute(sql.SQL("ANALYZE {}").format(keys))
        assert snapshot.target_oid is not None  # an incremental sync has a target
        same = same_key(cursor, snapshot.target_oid, selection.key, snapshot.target_oid)
        cursor.execute(
            sql.SQL("""
                SELECT count(*) AS new_keys
                  FROM {keys} AS s
                 WHERE NOT EXISTS (SELECT FROM {target} AS t WHERE {same_key} AND {not_deleted})
            """).format(
                keys=keys,
                target=snapshot.config.target_name.sql,
                same_key=same,
                not_deleted=not_deleted(selection, "t"),
            )
        )
        return fetch_value(cursor, int)
