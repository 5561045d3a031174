"""What Dagster shows of a table before any run of its own: what the last sync left in the user's cache."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from dagster import AssetSpec, Definitions, TableSchema

from xmin_assets import sync_tables
from xmin_assets.orchestration.definitions_builder import build_definitions
from xmin_assets.orchestration.specs import table_specs
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment, numbers

COLUMNS = [("id", "bigint"), ("item", "text"), ("price", "numeric(10,2)"), ("source_xmin", "bigint")]


def merged_target(deployment: Deployment) -> AssetSpec:
    (specs,) = table_specs(deployment.config, None).values()
    return specs["merged_target"]


def columns(deployment: Deployment) -> list[tuple[str, str]] | None:
    """Of the definition of merged_target; None where it knows none."""
    schema = merged_target(deployment).metadata.get("dagster/column_schema")
    assert schema is None or isinstance(schema, TableSchema)
    return schema and [(column.name, column.type) for column in schema.columns]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where the files are: the deployment sets the user's cache to this folder's parent."""
    return tmp_path / "cache" / "xmin_assets" / "tables"


def left_in(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


@pytest.mark.parametrize("by", ["the command", "stages", "table"])
def test_after_a_sync_the_definition_has_the_columns(deployment: Deployment, by: str) -> None:
    assert columns(deployment) is None
    if by == "the command":
        assert sync_tables(deployment.config).ok
    else:
        deployment.options = {"steps": by}
        deployment.run()
    assert columns(deployment) == COLUMNS


def test_after_a_sync_the_description_has_the_key_and_the_watermark(deployment: Deployment) -> None:
    assert "each run shows which, as `xmin_assets/key`" in (merged_target(deployment).description or "")
    watermark = numbers(deployment.run(), "merged_target")["xmin_assets/watermark_xid"]
    text = merged_target(deployment).description or ""
    assert "- Key: `id`" in text
    assert f"- Last sync before this code was loaded: 50 rows, watermark {watermark}, " in text


def test_a_later_sync_brings_the_later_columns(deployment: Deployment, source_db: Database) -> None:
    deployment.run()
    source_db.execute("ALTER TABLE orders ADD COLUMN note text")
    deployment.run()
    assert ("note", "text") in (columns(deployment) or [])


def test_a_table_without_a_key_says_so(deployment: Deployment, source_db: Database) -> None:
    source_db.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    deployment.tables = [{"source": "public.orders", "mode": "full_sync"}]
    deployment.run()
    assert "- Key: none: " in (merged_target(deployment).description or "")


def of_another_release(file: Path) -> None:
    file.write_text('{"columns": []}')


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def no_text(file: Path) -> None:
    file.write_bytes(b"\xff\x00" * 100)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_link(file: Path) -> None:
    elsewhere = file.parent.with_name("elsewhere")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


@pytest.mark.parametrize("spoil", [of_another_release, cut, no_text, a_folder, a_link])
def test_a_file_that_cannot_be_used_is_as_none(
    deployment: Deployment, cache: Path, spoil: Callable[[Path], None]
) -> None:
    deployment.run()
    spoil(left_in(cache))
    assert columns(deployment) is None
    Definitions.validate_loadable(build_definitions(deployment.config))


def test_loading_makes_no_folder(deployment: Deployment, cache: Path) -> None:
    build_definitions(deployment.config)
    assert not deployment.spool.exists() and not cache.exists()


def test_what_is_left_is_private(deployment: Deployment, cache: Path) -> None:
    deployment.run()
    assert stat.S_IMODE(left_in(cache).stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_without_connection_strings_the_definitions_load(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.run()
    monkeypatch.delenv("XMIN_TARGET_URL")
    assert columns(deployment) is None


def test_another_target_database_does_not_show_this_ones_columns(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.run()
    monkeypatch.setenv("XMIN_TARGET_URL", "postgresql://writer@elsewhere/copies")
    assert columns(deployment) is None


def test_a_sync_that_cannot_leave_anything_is_merged_all_the_same(
    deployment: Deployment, cache: Path, target_db: Database
) -> None:
    cache.parent.mkdir(parents=True, mode=0o700)
    cache.write_text("in the way")
    deployment.run()
    assert sync_tables(deployment.config).ok
    assert target_db.fetch("SELECT count(*) FROM orders") == [(50,)]
