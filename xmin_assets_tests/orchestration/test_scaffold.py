"""A project of dg that has this package installed: the component is scaffolded, checked and loaded there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import UsageError
from dagster import ScaffoldRequest
from pydantic import ValidationError

import xmin_assets
from xmin_assets.config import parse_config
from xmin_assets.orchestration.scaffolding import ScaffoldParams, XminReplicationScaffolder
from xmin_assets.postgres.identifiers import QualifiedName

PYPROJECT = """
[project]
name = "warehouse"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "warehouse"

[tool.dg.cli.telemetry]
enabled = false
"""

DEFINITIONS = """
from pathlib import Path
from dagster import definitions, load_from_defs_folder

@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of somebody else's, in the environment in which this package is installed."""
    folder = tmp_path / "project"
    (folder / "warehouse/defs").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "warehouse/__init__.py").write_text("")
    (folder / "warehouse/defs/__init__.py").write_text("")
    (folder / "warehouse/definitions.py").write_text(DEFINITIONS)
    return folder


def dg(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run dg as its users do; no database answers, and none is asked."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("dg")), *arguments],
        cwd=project,
        env={
            "PATH": str(Path(sys.executable).parent),
            "HOME": str(project),
            "PYTHONPATH": f"{project}:{Path(xmin_assets.__file__).parent.parent}",
            "XMIN_SOURCE_URL": "postgresql://u@127.0.0.1:1/s",
            "XMIN_TARGET_URL": "postgresql://u@127.0.0.1:1/t",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_what_is_scaffolded_is_valid_and_loads(project: Path) -> None:
    made = dg(project, "scaffold", "defs", "xmin_assets.XminReplicationComponent", "copies", "--tables", "a,sales.b")
    assert made.returncode == 0, made.stdout + made.stderr

    said = yaml.safe_load((project / "warehouse/defs/copies/defs.yaml").read_text())
    assert said["type"] == "xmin_assets.XminReplicationComponent"
    assert [table.label for table in parse_config(said["attributes"]).tables] == ["public.a", "sales.b"]
    checked = dg(project, "check", "yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = dg(project, "list", "defs", "--json")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert "sales/b" in listed.stdout


def test_a_scaffold_of_no_names_leaves_nothing_behind(project: Path) -> None:
    made = dg(project, "scaffold", "defs", "xmin_assets.XminReplicationComponent", "copies", "--tables", "a.b.c")

    assert made.returncode != 0
    assert "'a.b.c' is not a table name" in made.stdout + made.stderr
    assert "Traceback" not in made.stdout + made.stderr
    assert not (project / "warehouse/defs/copies").exists()
    for tables in ("", 'public."a', "public.a,,public.b"):
        with pytest.raises(ValidationError, match="is not a table name"):
            ScaffoldParams(tables=tables)


def test_a_scaffold_in_python_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    with pytest.raises(UsageError, match="leave --format out"):
        scaffold(folder, ScaffoldParams(), scaffold_format="python")
    assert not folder.exists()


def scaffold(path: Path, params: ScaffoldParams, **options: Any) -> None:
    """Do what dg does once it has made the folder."""
    request = {"scaffold_format": "yaml", "project_root": None, **options}
    name = "xmin_assets.XminReplicationComponent"
    XminReplicationScaffolder().scaffold(ScaffoldRequest(type_name=name, target_path=path, params=params, **request))


NAMES = ["Order, Lines", "ünï", "名前", "😀", 'a"b', "a.b", " ", "select", "null", "#", "a: b", "a\tb\nc", "\u2028\x85"]


@pytest.mark.parametrize("append", [False, True], ids=["new", "another document"])
def test_names_of_any_kind_are_written_as_they_are_read(tmp_path: Path, append: bool) -> None:
    names = [QualifiedName("public", name) for name in NAMES]
    params = ScaffoldParams(tables=",".join('public."{}"'.format(name.replace('"', '""')) for name in NAMES))
    file = tmp_path / "defs.yaml"
    if append:
        file.write_text("type: another.Component\n")

    scaffold(file if append else tmp_path, params, append=append)

    *others, said = yaml.safe_load_all(file.read_text())
    assert [table.source_name for table in parse_config(said["attributes"]).tables] == names
    assert [other["type"] for other in others] == ["another.Component"] * append


def test_a_key_that_is_unknown_is_named_by_dg_too(project: Path) -> None:
    dg(project, "scaffold", "defs", "xmin_assets.XminReplicationComponent", "copies")
    file = project / "warehouse/defs/copies/defs.yaml"
    file.write_text(file.read_text().replace("  tables:", "  tabels:", 1))

    checked = dg(project, "check", "yaml")

    assert checked.returncode != 0
    assert "tabels" in checked.stdout + checked.stderr
