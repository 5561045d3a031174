"""The code location: which file it reads, what it says about a wrong one, and that it connects to nothing."""

from __future__ import annotations

import select
import socket
from pathlib import Path

import pytest
from dagster import Definitions

from xmin_assets.config import DEFAULT_CONFIG
from xmin_assets.definitions import defs
from xmin_assets.errors import ConfigError
from xmin_assets.orchestration.component import XminReplicationComponent

TABLES = "tables: [{source: %s}]\n"


def tables(definitions: Definitions) -> set[str]:
    graph = definitions.resolve_asset_graph()
    return {
        node.key.to_user_string()
        for node in graph.asset_nodes
        if node.tags.get("xmin_assets/station") == "merged_target"
    }


def config(path: Path, table: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TABLES % table)
    return path


def test_without_any_setting_the_tables_of_the_project_are_loaded() -> None:
    assert "public/securities" in tables(defs())


def test_a_configuration_below_the_working_directory_goes_first(tmp_path: Path) -> None:
    config(tmp_path / DEFAULT_CONFIG, "public.mine")
    assert tables(defs()) == {"public/mine"}


def test_the_variable_goes_before_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(tmp_path / DEFAULT_CONFIG, "public.mine")
    monkeypatch.setenv("XMIN_CONFIG", str(config(tmp_path / "other.yaml", "public.other")))
    assert tables(defs()) == {"public/other"}


def test_the_same_configuration_is_made_into_assets_once(tmp_path: Path) -> None:
    file = config(tmp_path / DEFAULT_CONFIG, "public.mine")
    first = defs()
    assert defs() is first
    config(file, "public.another")
    assert tables(defs()) == {"public/another"}


def test_loading_connects_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for side in ("SOURCE", "TARGET"):
            monkeypatch.setenv(f"XMIN_{side}_URL", f"postgresql://u@127.0.0.1:{port}/d")
        Definitions.validate_loadable(defs())
        knocking, _, _ = select.select([server], [], [], 0)
    assert not knocking


def test_an_error_in_the_file_is_said_in_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("tables: [{source: public.a, modus: full_sync}]\n")
    monkeypatch.setenv("XMIN_CONFIG", str(wrong))
    with pytest.raises(ConfigError) as caught:
        defs()
    assert "Did you mean mode?" in str(caught.value)
    assert str(caught.value).count("\n") <= 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMIN_CONFIG", str(tmp_path / "missing.yaml"))
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        defs()


def test_the_component_makes_the_same_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster.components.core.component_tree import ComponentTree

    monkeypatch.setenv("MY_SOURCE", "postgresql://u:word@h/d")
    attributes = {"source": "{{ env.MY_SOURCE }}", "tables": ["public.a", {"source": "s.b"}]}
    component = XminReplicationComponent.from_attributes_dict(attributes=attributes)
    assert component.config.source_url() == "postgresql://u:word@h/d"
    assert tables(component.build_defs(ComponentTree.for_test().load_context)) == {"public/a", "s/b"}
    assert "word" not in repr(component)
