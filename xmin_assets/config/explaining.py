"""What is wrong with a configuration, in a line or two that say where, what, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_LINES = 2
"""More than this is not read."""

_MESSAGES = {
    "missing": "is missing",
    "too_short": "is empty",
    "tuple_type": "should be a list",
    "string_type": "should be text",
    "model_type": "should be a mapping of keys to values",
    "model_attributes_type": "should be a mapping of keys to values",
}


def nearest(name: str, known: Iterable[object]) -> str:
    """`` Did you mean X?`` for the known name that is closest, or nothing."""
    close = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""


def explain(error: ValidationError, data: object, model: type[BaseModel]) -> list[str]:
    """The first problems of a validation, one line each; a value is quoted only where it cannot be a secret.

    Args:
        error: what validating `data` as `model` raised.
        data: the configuration, of which tables are named by their source.
        model: the outermost model.
    """
    problems = error.errors(include_url=False)
    # Defaults are part of every table, and a misspelled key also makes the right one missing: say it once.
    from_defaults = {problem["loc"][1:] for problem in problems if problem["loc"][:1] == ("defaults",)}
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    lines = [_unknown_key(problem, data, model) for problem in unknown if not _repeated(problem, from_defaults)]
    if not lines:
        lines = [_problem(problem, data) for problem in problems if not _repeated(problem, from_defaults)]
    return list(dict.fromkeys(lines))[:_LINES]


def _repeated(problem: ErrorDetails, from_defaults: set[tuple[int | str, ...]]) -> bool:
    return problem["loc"][:1] == ("tables",) and problem["loc"][2:] in from_defaults


def _unknown_key(problem: ErrorDetails, data: object, model: type[BaseModel]) -> str:
    *parents, name = problem["loc"]
    return f"{_place(parents, data)}unknown key {name!r}.{nearest(str(name), _keys(parents, model))}"


def _problem(problem: ErrorDetails, data: object) -> str:
    location = [part for part in problem["loc"] if part != "function-after"]
    kind, value = problem["type"], problem["input"]
    if kind in ("enum", "literal_error"):
        message = f"is {value!r}, which is not one of {problem['ctx']['expected']}"
    else:
        message = _MESSAGES.get(kind) or problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if isinstance(value, (int, float)) and kind not in _MESSAGES:
            message += f", not {value}"
    *parents, name = location or [""]
    if isinstance(name, int):
        return f"{_place(location, data)}{message.rstrip('.')}."
    return f"{_place(parents, data)}{name} {message.rstrip('.')}.".replace("  ", " ")


def _place(parents: list[int | str], data: object) -> str:
    if not parents:
        return ""
    if parents[0] == "tables" and len(parents) > 1:
        number = int(parents[1])
        table = data["tables"][number] if isinstance(data, Mapping) else None
        source = table.get("source") if isinstance(table, Mapping) else table
        rest = [str(part) for part in parents[2:]]
        return f"{'.'.join([f'table {source or number + 1}', *rest])}: "
    return f"{'.'.join(str(part) for part in parents)}: "


def _keys(parents: list[int | str], model: type[BaseModel]) -> list[str]:
    inner: Any = model
    for part in parents:
        if isinstance(part, str):
            annotation = inner.model_fields[part].annotation
            arguments = getattr(annotation, "__args__", (annotation,))
            inner = arguments[0]
    return list(inner.model_fields)
