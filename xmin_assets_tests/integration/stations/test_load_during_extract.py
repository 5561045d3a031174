"""Loading while the extract goes on: files are handed on as they are complete, and what goes wrong stops both."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest

from xmin_assets import resync_tables
from xmin_assets.errors import DataInvalid
from xmin_assets.replication import sync
from xmin_assets.replication.extraction import part_writer
from xmin_assets.replication.extraction.extract import extract
from xmin_assets.replication.manifests.extract import CsvExtract, Part
from xmin_assets.replication.scan import ranges
from xmin_assets.replication.staging import file_loading, loader, stage
from xmin_assets_tests.replica import Replica

ROWS = 20_000


@pytest.fixture
def large(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> Replica:
    """A table of some 2.5 MB, where that is large."""
    for module in (part_writer, stage):
        monkeypatch.setattr(module, "PART_BYTES", 100_000)
    monkeypatch.setattr(ranges, "MIN_BYTES", 4 * ranges.BLOCK_SIZE)
    monkeypatch.setattr(ranges, "BATCH_BYTES", 4 * ranges.BLOCK_SIZE)
    replica.settings.update(workers=3, batch_size=500)
    replica.source.execute(
        "CREATE TABLE large (id int PRIMARY KEY, note text);"
        f" INSERT INTO large SELECT i, repeat('x', 80) FROM generate_series(1, {ROWS}) i"
    )
    return replica


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """The files that were loaded before the extract was over."""
    parts: list[Part] = []
    take, extract_ = loader.StagedTableLoader.take, sync.read_source_table
    extracting: list[bool] = []

    def take_and_tell(self: loader.StagedTableLoader, part: Part) -> None:
        if extracting:
            parts.append(part)
        take(self, part)

    def extract_and_tell(*arguments: Any, **options: Any) -> CsvExtract:
        extracting.append(True)
        try:
            return extract_(*arguments, **options)
        finally:
            extracting.clear()

    monkeypatch.setattr(loader.StagedTableLoader, "take", take_and_tell)
    monkeypatch.setattr(sync, "read_source_table", extract_and_tell)
    return parts


@pytest.mark.parametrize("mode", ["xmin_incremental", "full_sync"])
@pytest.mark.parametrize("workers", [1, 3])
def test_files_are_loaded_while_others_are_written(large: Replica, taken: list[Part], mode: str, workers: int) -> None:
    large.settings["workers"] = workers
    result = large.sync({"source": "public.large", "mode": mode})

    assert len(taken) > 10
    assert result.rows_extracted == ROWS
    large.assert_equal("public.large")
    assert [path for path in large.spool.rglob("*") if path.is_file()] == []


def test_a_table_without_a_key_has_each_row_once(large: Replica, taken: list[Part]) -> None:
    large.source.execute("ALTER TABLE large DROP CONSTRAINT large_pkey")
    for _ in range(2):
        large.sync({"source": "public.large", "mode": "full_sync"})
        large.assert_equal("public.large")
    assert taken


def test_a_full_extract_into_a_table_that_is_there(large: Replica, taken: list[Part]) -> None:
    large.sync("public.large")
    taken.clear()
    large.target.execute("UPDATE large SET note = 'somebody else''s'")
    resync_tables(large.config("public.large"))
    large.source.execute("DELETE FROM large WHERE id % 7 = 0; UPDATE large SET note = 'new' WHERE id % 11 = 0")
    large.sync("public.large")
    large.assert_equal("public.large")
    assert taken


def test_an_incremental_sync_hands_nothing_on(large: Replica, taken: list[Part]) -> None:
    large.sync("public.large")
    taken.clear()
    large.source.execute("UPDATE large SET note = repeat('y', 80)")
    large.sync("public.large")
    large.assert_equal("public.large")
    assert not taken


def test_a_value_that_the_target_refuses_stops_the_extract(large: Replica, taken: list[Part]) -> None:
    result = large.try_sync({"source": "public.large", "type_overrides": {"note": "varchar(10)"}})

    assert "too long for type" in (result.error or "")
    # All files would be 20 or more.
    assert 0 < len(taken) < 12
    assert large.target.fetch("SELECT to_regclass('public.large')") == [(None,)]
    assert [path for path in large.spool.rglob("*") if path.is_file()] == []


def test_a_connection_lost_while_loading_is_tried_again_and_no_row_comes_twice(
    large: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_in, cut = file_loading.copy_in, list[bool]()

    def copy_in_once_cut(cursor: Any, *arguments: Any) -> int:
        rows = copy_in(cursor, *arguments)
        if not cut:
            cut.append(True)
            cursor.connection.close()
            raise psycopg2.OperationalError("server closed the connection unexpectedly")
        return rows

    monkeypatch.setattr(file_loading, "copy_in", copy_in_once_cut)
    large.source.execute("ALTER TABLE large DROP CONSTRAINT large_pkey")
    large.sync({"source": "public.large", "mode": "full_sync"})
    assert cut
    large.assert_equal("public.large")


def test_a_file_that_cannot_be_taken_ends_the_extract(large: Replica) -> None:
    def refuse(_: Part) -> None:
        raise DataInvalid("refused")

    with large.stations("public.large") as stations:
        planned = stations.snapshot()
        with pytest.raises(DataInvalid, match="refused"):
            extract(stations.source, planned, stations.spool, stations.config.settings, on_part_complete=refuse)
