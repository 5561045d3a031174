"""docs/configuration.md lists every key of every model, with its true default, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from xmin_assets.config import Checks, ReplicationConfig, Settings, TableConfig, TablePattern
from xmin_assets.config.checks import EqualityCheck, SourceCheck, WraparoundCheck
from xmin_assets.config.dagster import Freshness, Sensor, Translation

TEXT = (Path(__file__).parents[2] / "docs/configuration.md").read_text()

# The heading of a table's first column, in the section of this name, and the model that it lists.
TABLES: dict[tuple[str, str], type[BaseModel]] = {
    ("The file", "key"): ReplicationConfig,
    ("Tables", "key"): TableConfig,
    ("Tables", "in a pattern"): TablePattern,
    ("Settings", "setting"): Settings,
    ("Sensor", "in the sensor"): Sensor,
    ("Freshness", "in freshness"): Freshness,
    ("Translation", "in translation"): Translation,
    ("Checks", "check"): Checks,
    ("Checks", "of target_equals_source"): EqualityCheck,
    ("Checks", "of wraparound"): WraparoundCheck,
    ("Checks", "of held_back and schema_drift"): SourceCheck,
}
SECTIONS = {part.splitlines()[0]: part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}


def rows(section: str, heading: str) -> dict[str, str]:
    """The defaults that a table names, by its keys."""
    table = SECTIONS[section].split(f"| {heading} |")[1].split("\n\n")[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()[2:]]
    return {key.strip().strip("`"): default.strip() for key, _, default in cells}


def models() -> set[type[BaseModel]]:
    """Every model that the configuration is made of."""
    found: set[type[BaseModel]] = set()

    def walk(annotation: Any) -> None:
        for part in getattr(annotation, "__args__", ()):
            walk(part)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in found:
            found.add(annotation)
            for field in annotation.model_fields.values():
                walk(field.annotation)

    walk(ReplicationConfig)
    return found


def test_every_model_has_a_table() -> None:
    listed = {*TABLES.values()}

    # The defaults are keys of a table; they stand in its table.
    assert {model for model in models() if model.__name__ != "TableDefaults"} - listed == set()


@pytest.mark.parametrize(("place", "model"), TABLES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_table_has_the_keys_of_its_model_and_their_defaults(place: tuple[str, str], model: type[BaseModel]) -> None:
    listed = rows(*place)
    fields = {field.alias or name: field for name, field in model.model_fields.items()}

    assert {*listed} == {*fields}
    for name, field in fields.items():
        literal = re.fullmatch(r"`(.*)`", listed[name])
        if literal:
            said = yaml.safe_load(literal[1])
            needed = {"source": "public.t"} if model is TableConfig else {}
            given = model.model_validate(
                {**needed, **({"tables": ["public.t"]} if "tables" in fields else {}), name: said}
            )
            attribute = next(key for key, value in model.model_fields.items() if (value.alias or key) == name)
            assert getattr(given, attribute) == field.default, name
        elif listed[name] == "required":
            assert field.default is PydanticUndefined, name
        else:
            assert field.default in (None, (), "", {}) or isinstance(field.default, BaseModel), name
