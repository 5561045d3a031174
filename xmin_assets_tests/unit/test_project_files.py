"""The files at the top of the project agree with each other and with the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from xmin_assets.config import load_config
from xmin_assets.demo.dotenv import KEYS
from xmin_assets.demo.sample import TABLES

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_dg_and_workspace_name_the_same_module_and_location() -> None:
    (entry,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    project = pyproject()["tool"]["dg"]["project"]
    assert entry["python_module"] == {
        "module_name": project["code_location_target_module"],
        "location_name": project["code_location_name"],
    }


def test_the_tables_of_the_deployment_are_those_of_the_demo() -> None:
    config = load_config(ROOT / "xmin_assets/defs/replication/defs.yaml")
    assert tuple(table.source for table in config.tables) == TABLES


def test_constraints_are_names_and_versions_that_cover_every_dependency() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pin = re.compile(r'([A-Za-z0-9._-]+)==[0-9][0-9a-z.]*( ; python_version >= "3\.\d+")?')
    assert [line for line in lines if pin.fullmatch(line) is None] == []

    pinned = {re.sub(r"[._]", "-", line.split("==")[0]).lower() for line in lines}
    project = pyproject()["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[<>=\[]", dependency)[0].lower() for dependency in wanted}
    assert names - pinned == {"xmin-assets"}


def test_the_example_environment_names_what_the_demo_writes() -> None:
    example = (ROOT / ".env.example").read_text()
    assert [line.rstrip("=") for line in example.splitlines() if line and not line.startswith("#")] == list(KEYS)


def test_files_with_passwords_are_ignored_by_git() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {".env", ".demo/"} <= set(ignored)


def test_hooks_run_what_make_lint_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    recipe = re.findall(r"^lint:.*\n((?:\t.*\n?)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]
    commands = [line.strip().removeprefix("$(BIN)/").removesuffix(" .") for line in recipe.splitlines()]

    assert hooks == commands
    assert "make lint" in (ROOT / ".ci/run").read_text()


def test_the_license_is_the_one_that_the_package_names() -> None:
    project = pyproject()["project"]

    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()
