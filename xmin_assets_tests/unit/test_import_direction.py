"""Imports point one way: cli, orchestration and demo to replication, then config, then postgres, then errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xmin_assets

PACKAGE = Path(xmin_assets.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Which rooms a room may import from, beside its own. The package's front door, `xmin_assets` itself, imports
# on first use only, and is not for the rooms.
ALLOWED: dict[str, set[str]] = {
    "redaction": set(),
    "errors": {"redaction"},
    "postgres": {"errors", "redaction"},
    "config": {"errors", "redaction", "postgres.expression", "postgres.identifiers"},
    "replication": {"errors", "postgres", "config"},
    "cli": {"errors", "redaction", "postgres", "config", "replication", "demo"},
    "demo": {"errors", "postgres", "config", "replication"},
    "orchestration": {"errors", "postgres", "config", "replication"},
    "definitions": {"errors", "config", "orchestration"},
    "__main__": {"cli"},
    "__init__": {"errors", "postgres", "config", "replication", "orchestration"},
}
DAGSTER_ROOMS = {"orchestration", "definitions"}


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(module: Path) -> Iterator[str]:
    """Every module that is imported anywhere in the file, with the imported names, which may be modules too."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides where it points"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def allowed(target: str, room: str) -> bool:
    """Whether a module of this room may import `target`, a dotted name below xmin_assets."""
    rooms = {room, *ALLOWED[room]}
    return any(target == other or target.startswith(f"{other}.") for other in rooms)


def test_every_room_has_its_rule() -> None:
    assert {room_of(module) for module in MODULES} <= set(ALLOWED)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_imports_point_one_way(module: Path) -> None:
    room = room_of(module)
    ours = [name.removeprefix("xmin_assets.") for name in imports_of(module) if name.startswith("xmin_assets.")]

    assert [name for name in ours if not allowed(name, room)] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_dagster_is_known_to_orchestration_alone(module: Path) -> None:
    dagster = [name for name in imports_of(module) if name.split(".")[0].startswith("dagster")]

    assert room_of(module) in DAGSTER_ROOMS or dagster == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_the_package_knows_neither_its_tests_nor_its_benchmarks(module: Path) -> None:
    assert [name for name in imports_of(module) if name.split(".")[0] in ("benchmarks", "xmin_assets_tests")] == []


# The rooms of the engine, from the top floor down. What is in no room is called by commands and assets: the top floor.
FLOORS = (
    "verification",
    "extraction",
    "merging",
    "planning",
    "staging",
    "schema",
    "changed_blocks",
    "state",
    "runtime",
    "scan",
    "spool",
    "manifests",
)
ENGINE = [module for module in MODULES if module.is_relative_to(PACKAGE / "replication")]


def floor_of(name: str) -> int:
    """The floor of a room, or of what is in no room: 0 is the top one."""
    return FLOORS.index(name) + 1 if name in FLOORS else 0


def test_every_room_has_a_floor() -> None:
    assert {module.parent.name for module in ENGINE} == {"replication", *FLOORS}


@pytest.mark.parametrize("module", ENGINE, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_room_of_the_engine_imports_only_from_those_below_it(module: Path) -> None:
    room = module.relative_to(PACKAGE / "replication").parts[0]
    prefix = "xmin_assets.replication."
    imported = [name.removeprefix(prefix) for name in imports_of(module) if name.startswith(prefix)]
    above = [name for name in imported if floor_of(name.split(".")[0]) < floor_of(room)]

    assert above == []


def test_the_decision_is_pure() -> None:
    for pure in (
        "planning/decision",
        "planning/source_identity",
        "schema/column_changes",
        "schema/type_alteration",
        "schema/type_changes",
        "schema/type_meaning",
    ):
        names = [*imports_of(PACKAGE / "replication" / f"{pure}.py")]
        for connected in ("psycopg2", "xmin_assets.postgres.connection", "xmin_assets.postgres.transaction"):
            assert not any(name.startswith(connected) for name in names if name != "psycopg2.sql"), (pure, connected)
