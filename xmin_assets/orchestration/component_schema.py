"""What ``dg check yaml`` and editors know of a component's attributes: the configuration's JSON schema.

Where it finds a mistake, ``dg check yaml`` prints the lines around it, and these may hold a connection string. So the
schema judges files without passwords alone, as files should be. Any other file is judged by our own reader, when
Dagster loads it, and that one shows no values.
"""

from __future__ import annotations

from typing import Any

from pydantic import RootModel

from xmin_assets.config import ReplicationConfig

_PASSWORD = r"://[^\s/]*:[^\s]+@|[Pp][Aa][Ss][Ss][Ww][Oo][Rr][Dd]\s*="
_TEMPLATE = {"type": "string", "pattern": r"\{\{"}


class Attributes(RootModel[Any]):
    """Any attributes, with the schema of the configuration."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the configuration's JSON schema, in which a template may stand for any value."""
        schema = ReplicationConfig.model_json_schema(*args, **kwargs)
        definitions = schema.pop("$defs")
        configuration = {**schema}
        for model in (configuration, *definitions.values()):
            model["properties"] = {name: _or_template(value) for name, value in model.get("properties", {}).items()}
        # A table may be its name alone.
        tables = configuration["properties"]["tables"]["else"]
        tables["items"] = {"if": {"type": "string"}, "then": {}, "else": tables["items"]}
        return {
            "title": schema["title"],
            "description": schema["description"],
            "type": "object",
            "properties": {name: _described(value) for name, value in schema["properties"].items()},
            "if": {"$ref": "#/$defs/clean"},
            "then": {"$ref": "#/$defs/configuration"},
            "$defs": {**definitions, "configuration": configuration, "clean": _CLEAN},
        }


_CLEAN = {
    "if": {"type": "string"},
    "then": {"not": {"pattern": _PASSWORD}},
    "additionalProperties": {"$ref": "#/$defs/clean"},
    "items": {"$ref": "#/$defs/clean"},
}


def _or_template(value: dict[str, Any]) -> dict[str, Any]:
    return {"if": _TEMPLATE, "then": {}, "else": value, **_described(value)}


def _described(value: dict[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in ("title", "description", "default") if key in value}
