"""What is known of each table without asking its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xmin_assets.config import ReplicationConfig, load_config
from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.transaction import Isolation, transact
from xmin_assets.replication.manifest import MergedTarget, State
from xmin_assets.replication.pipeline import open_target
from xmin_assets.replication.state import read_result, read_state


@dataclass(frozen=True)
class TableStatus:
    """A table's last merged sync; `state` and `last` are None if it was never synced."""

    table: str
    target: str
    state: State | None = None
    last: MergedTarget | None = None
    error: str | None = None


def table_statuses(config: ReplicationConfig | None = None, *, tables: Sequence[str] = ()) -> tuple[TableStatus, ...]:
    """The status of each configured table, from the target's state.

    Raises:
        ConfigError: the configuration is wrong or names no such table.
    """
    config = config or load_config()
    chosen = config.select(list(tables))
    with open_target(config) as target:
        try:
            with transact(target, Isolation.READ, "Reading the state") as cursor:
                return tuple(
                    TableStatus(
                        table.label,
                        str(table.target_name),
                        read_state(cursor, table.target_name),
                        read_result(cursor, table.target_name),
                    )
                    for table in chosen
                )
        except XminAssetsError as error:
            return tuple(TableStatus(table.label, str(table.target_name), error=str(error)) for table in chosen)
