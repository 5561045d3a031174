"""Forgetting a watermark, so that the next sync reads and compares everything."""

from __future__ import annotations

from dataclasses import replace

from xmin_assets.config import TableConfig
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.state.table_state import lock_table_state, read_result, read_state, write_state


def resync(target: Database, table: TableConfig, reason: str = "a resync was asked for") -> bool:
    """Make the table's next sync read everything; False if it was never merged, and so will do that anyway.

    A sync that is under way was planned from the state before and will be refused.
    """
    with transaction_on(target, TransactionMode.WRITE, f"{table.label}: asking for a resync") as cursor:
        lock_table_state(cursor, table.target_name)
        state = read_state(cursor, table.target_name)
        result = read_result(cursor, table.target_name)
        if state is None or result is None:
            return False
        state = replace(state, revision=state.revision + 1, resync=reason)
        write_state(cursor, table.target_name, state, result)
    return True
