"""Dagster's storage in PostgreSQL over kept connections, for dagster.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config
from sqlalchemy import event

from xmin_assets.orchestration.event_log import MAX_OVERFLOW, POOL_RECYCLE_S, remember_schema


def _do_not_wait_for_the_disk(connection: Any, _: object) -> None:
    """Let commits be asynchronous: each event is one or two. A crash may lose the last events, but no row."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")


class PooledPostgresStorage(DagsterPostgresStorage):
    """dagster-postgres' storage, with the same configuration, whose connections outlive an event and commit at once.

    dagster-postgres opens one for each statement, except in the webserver. Whoever makes a run of hundreds of tables
    writes thousands of events before its first step.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: Any = None,
    ) -> None:
        super().__init__(postgres_url, should_autocreate_tables, inst_data, token_provider)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = create_pg_engine(
                postgres_url,
                token_provider,
                isolation_level="AUTOCOMMIT",
                pool_size=1,
                max_overflow=MAX_OVERFLOW,
                pool_recycle=POOL_RECYCLE_S,
                # A kept connection may have been cut since: one of its own would not have noticed either.
                pool_pre_ping=True,
            )
            event.listen(storage._engine, "connect", _do_not_wait_for_the_disk)
        remember_schema(self._event_log_storage)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledPostgresStorage:
        """Make a storage of this class, where the parent would make one of its own."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )
