"""A source that summarizes its WAL, and lets itself be asked about the rest of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.replication.changed_blocks import block_map
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.report import TableResult
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica

TABLE = "public.items"
CREATE = """
CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL, filler text NOT NULL) WITH (autovacuum_enabled = off);
INSERT INTO items SELECT i, 0, repeat('x', 700) FROM generate_series(1, 4000) i;
"""


@dataclass
class Tracked:
    """`public.items`, of 4000 rows in 364 blocks, whose copy knows the blocks."""

    replica: Replica
    options: dict[str, Any]

    @property
    def source(self) -> Database:
        return self.replica.source

    @property
    def config(self) -> dict[str, Any]:
        return {"source": TABLE, "track_blocks": True, **self.options}

    def sync(self) -> TableResult:
        """A sync after which the copy is equal, and knows the block of every row."""
        result = self.replica.sync(self.config)
        self.assert_equal()
        return result

    def extract(self) -> CsvExtract:
        """What the next sync would read; nothing is merged."""
        with self.replica.stations(self.config) as stations:
            return stations.up_to_extract()

    def assert_equal(self) -> None:
        self.replica.assert_equal(TABLE)
        ((filenode,),) = self.source.fetch("SELECT pg_relation_filenode('items')::int8")
        there = self.source.fetch("SELECT id, (ctid::text::point)[0]::int8 FROM items ORDER BY id")
        here = self.replica.target.fetch("SELECT id, source_block FROM items ORDER BY id")
        assert here == [(key, filenode << 32 | block) for key, block in there]


@pytest.fixture
def inspected(summarizing_server: Cluster, target_db: Database, tmp_path: Path) -> Iterator[Replica]:
    """A replica whose source has pg_walinspect."""
    source = Database.create(summarizing_server)
    source.execute("CREATE EXTENSION pg_walinspect")
    yield Replica(source, target_db, tmp_path / "spool", {"workers": 2})
    source.drop()


@pytest.fixture
def tracked(inspected: Replica) -> Tracked:
    """The table, synced once."""
    inspected.source.execute(CREATE)
    items = Tracked(inspected, {})
    items.sync()
    return items


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever share of a table changed, its map is used."""
    monkeypatch.setattr(block_map, "MOST_SHARE", 2)
