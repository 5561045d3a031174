"""Where the configuration is read from: a YAML file and the environment."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from xmin_assets.config.pattern import TablePattern, is_pattern
from xmin_assets.config.replication import ReplicationConfig
from xmin_assets.config.templates import names_env_alone, render
from xmin_assets.config.validation_messages import explain, nearest, place_of
from xmin_assets.errors import ConfigError
from xmin_assets.redaction import shown

DEFAULT_CONFIG = Path("xmin_assets/defs/replication/defs.yaml")

_COMPONENT_KEYS = ("type", "attributes", "requirements", "template_vars_module", "post_processing")
_LEAST = "tables: [{source: public.orders}]"


def config_path(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the configuration file: the one given, else ``XMIN_CONFIG``, else the default of this project."""
    return Path(path or os.environ.get("XMIN_CONFIG") or DEFAULT_CONFIG)


def load_config(path: str | os.PathLike[str] | None = None) -> ReplicationConfig:
    """Read a configuration file: a component file (``type:`` and ``attributes:``) or the attributes alone.

    Raises:
        ConfigError: the file is missing, is not YAML, or says something unknown or impossible.
    """
    file = config_path(path)
    return parse_config(_attributes(file), str(file))


def load_pattern(path: str | os.PathLike[str]) -> TablePattern | None:
    """Return the pattern that stands for the tables in a configuration file; None if it lists them.

    Raises:
        ConfigError: the file cannot be read, or the pattern is wrong.
    """
    data = _attributes(Path(path))
    tables = data.get("tables") if isinstance(data, dict) else None
    if not is_pattern(tables):
        return None
    try:
        return TablePattern.model_validate(tables)
    except ValidationError as error:
        lines = explain(error, tables, TablePattern)
        raise ConfigError("\n".join(f"{path}: tables: {line}" for line in lines)) from error


def check_form(file: Path) -> None:
    """Read a file for its form alone, as the command reads it: YAML, with no key twice.

    Raises:
        ConfigError: it is something else.
    """
    _documents(file)


def _attributes(file: Path) -> Any:
    documents = _documents(file)
    if len(documents) > 1:
        raise ConfigError(
            f"{file} holds {len(documents)} configurations, one after each ---. Dagster reads them all, the command "
            "one: put each in a file of its own."
        )
    data = documents[0] if documents else None
    if isinstance(data, dict) and "attributes" in data:
        for key in data:
            if key not in _COMPONENT_KEYS:
                raise ConfigError(
                    f"{file}: unknown key {shown(key)} beside attributes.{nearest(str(key), _COMPONENT_KEYS)}"
                )
        data = data["attributes"]
    return data


def _documents(file: Path) -> list[Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no configuration file {file}. Name one with --config or XMIN_CONFIG; the least that works is:\n"
            + _LEAST
        ) from error
    except OSError as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        # The cause has the whole file in it, passwords included.
        raise ConfigError(f"The configuration file {file} is not text in UTF-8.") from None
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        at = f" at line {where.line + 1}, column {where.column + 1}" if where else ""
        # The cause quotes the line, which may have a password in it.
        raise ConfigError(f"{file} is not YAML{at}: {getattr(error, 'problem', None) or error}.") from None


def parse_config(
    data: object, origin: str = "the configuration", *, scope: Mapping[str, Any] | None = None
) -> ReplicationConfig:
    """Validate configuration data, after templates in its texts were rendered.

    Args:
        data: what a file says.
        origin: where it was read, for errors.
        scope: what templates may name beside ``env``.

    Raises:
        ConfigError: a key is unknown (the nearest known one is named), a value is not allowed, or a template cannot be
            rendered.
    """
    if not isinstance(data, dict) or not data:
        raise ConfigError(f"{origin} holds no settings. The least that works is:\n{_LEAST}")
    rendered = {key: _render(value, (key,), data, origin, scope) for key, value in data.items()}
    try:
        return ReplicationConfig.model_validate(rendered)
    except ValidationError as error:
        lines = explain(error, rendered, ReplicationConfig)
        # The cause quotes values, which may be connection strings.
        raise ConfigError("\n".join(f"{origin}: {line}" for line in lines)) from None


def _render(
    value: Any, path: tuple[int | str, ...], data: dict[str, Any], origin: str, scope: Mapping[str, Any] | None
) -> Any:
    # Dagster renders these for each asset, when the asset is known.
    if path[-1:] == ("translation",) and (path[:-1] in ((), ("defaults",)) or (path[0] == "tables" and len(path) == 3)):
        return value
    if isinstance(value, dict):
        return {key: _render(item, (*path, key), data, origin, scope) for key, item in value.items()}
    if isinstance(value, list):
        return [_render(item, (*path, number), data, origin, scope) for number, item in enumerate(value)]
    # The databases' variables are looked up when they are connected to: planning and loading need no connection.
    if not isinstance(value, str) or (path in (("source",), ("target",)) and names_env_alone(value)):
        return value
    *parents, last = path
    place = place_of(path, data)[:-2] if isinstance(last, int) else f"{place_of(parents, data)}{last}"
    return render(value, f"{origin}: {place}", scope)


class _Loader(yaml.SafeLoader):
    """As YAML demands, a key may stand only once: of two ``tables:`` the first would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"the key {key.value} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
