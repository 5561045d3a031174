"""A source database, a target database and what keeps them equal: the engine, as a library's user calls it.

replica.sync("public.t")        all four stations, must succeed; the TableResult
replica.stations("public.t")    the stations one by one, for tests in which an order matters
replica.assert_equal("public.t")
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg2 import sql

from xmin_assets.config import ReplicationConfig, TableConfig, parse_config
from xmin_assets.postgres.connection import Database as Endpoint
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.extraction.extract import extract
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.report import TableResult
from xmin_assets.replication.merging.merge import merge
from xmin_assets.replication.planning.snapshot import snapshot
from xmin_assets.replication.runtime.databases import open_databases
from xmin_assets.replication.runtime.progress import ProgressCallback, ignore_progress
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.staging.stage import stage
from xmin_assets.replication.sync import TablePlan, plan_tables, sync_tables
from xmin_assets.replication.verification.verify import TableVerification, verify_tables
from xmin_assets_tests.clusters import Database

OWN = ("source_xmin", "source_deleted_at", "source_block")


@dataclass
class Stations:
    """One table's stations, to be called one by one."""

    source: Endpoint
    target: Endpoint
    table: TableConfig
    spool: Spool
    config: ReplicationConfig

    def snapshot(self) -> SourceSnapshot:
        return snapshot(self.source, self.target, self.table)

    def extract(
        self, planned: SourceSnapshot, report: ProgressCallback = ignore_progress, *, probe: bool = True
    ) -> CsvExtract:
        target = self.target if probe else None
        return extract(self.source, planned, self.spool, self.config.settings, target=target, on_progress=report)

    def stage(self, extracted: CsvExtract) -> StagedTable:
        return stage(self.target, extracted, self.spool, self.config.settings)

    def merge(self, staged: StagedTable, **options: Any) -> MergedTarget:
        return merge(self.target, staged, **options)

    def up_to_extract(self) -> CsvExtract:
        return self.extract(self.snapshot())

    def up_to_stage(self) -> StagedTable:
        return self.stage(self.up_to_extract())


@dataclass
class Replica:
    """Two databases and the settings under which tables are copied from one to the other."""

    source: Database
    target: Database
    spool: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def config(self, *tables: str | dict[str, Any], **settings: Any) -> ReplicationConfig:
        return parse_config(
            {
                "source": self.source.url,
                "target": self.target.url,
                "settings": {"spool": str(self.spool), **self.settings, **settings},
                "tables": list(tables),
            }
        )

    def try_sync(self, table: str | dict[str, Any], **options: Any) -> TableResult:
        """One sync, whatever comes of it."""
        (result,) = sync_tables(self.config(table), **options).tables
        return result

    def sync(self, table: str | dict[str, Any], **options: Any) -> TableResult:
        """One sync that must succeed."""
        result = self.try_sync(table, **options)
        assert result.status == "success", result.error
        return result

    def verify(self, table: str | dict[str, Any], **options: Any) -> TableVerification:
        """One comparison, whatever comes of it."""
        (result,) = verify_tables(self.config(table), **options).tables
        return result

    def plan(self, table: str | dict[str, Any]) -> TablePlan:
        """What the next sync would do."""
        (planned,) = plan_tables(self.config(table))
        return planned

    @contextmanager
    def stations(self, table: str | dict[str, Any], **settings: Any) -> Iterator[Stations]:
        """The stations of one table."""
        config = self.config(table, **settings)
        with ExitStack() as stack:
            source, target = stack.enter_context(open_databases(config))
            yield Stations(source, target, config.tables[0], Spool.open(config.settings), config)

    def assert_equal(self, table: str, target: str | None = None, where: str = "true") -> None:
        """Compare all columns of all rows as text; the target's own columns aside."""
        there, here = QualifiedName.parse(table), QualifiedName.parse(target or table)
        columns = [name for name in self.columns(self.source, there) if name not in OWN]
        assert contents(self.target, here, columns) == contents(self.source, there, columns, where)

    @staticmethod
    def columns(database: Database, table: QualifiedName) -> list[str]:
        """The names of a table's columns."""
        rows = database.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = format('%%I.%%I', %s, %s)::regclass"
            " AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (table.schema, table.name),
        )
        return [name for (name,) in rows]

    def source_xmins(self, table: str) -> list[int]:
        """The target's source_xmin values, sorted."""
        query = sql.SQL("SELECT source_xmin FROM {} ORDER BY 1").format(QualifiedName.parse(table).sql)
        return [value for (value,) in self.target.fetch(query)]


def contents(database: Database, table: QualifiedName, columns: list[str], where: str = "true") -> list[str]:
    """Every row as one text, sorted."""
    row = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in columns)
    query = sql.SQL("SELECT ROW({})::text FROM {} AS t WHERE {} ORDER BY 1").format(row, table.sql, sql.SQL(where))
    return [line for (line,) in database.fetch(query)]
