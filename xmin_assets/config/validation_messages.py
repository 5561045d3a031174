"""What is wrong with a configuration, in a line or two that say where, what, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xmin_assets.redaction import may_be_shown, shown

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
    "string_pattern_mismatch": "may have letters, digits and underscores only, and begins with no digit",
    "model_type": "should be a mapping of keys to values",
    "model_attributes_type": "should be a mapping of keys to values",
}


def nearest(name: str, known: Iterable[object]) -> str:
    """Return `` Did you mean X?`` for the known name that is closest, or nothing."""
    import difflib  # here, because few ever need it

    close = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""


def explain(error: ValidationError, data: object, model: type[BaseModel]) -> list[str]:
    """Return the first problems of a validation, one line each; no value is quoted that may be a secret.

    Args:
        error: what validating `data` as `model` raised.
        data: the configuration, of which tables are named by their source.
        model: the outermost model.
    """
    problems = error.errors(include_url=False)
    for problem in problems:
        problem["loc"] = _keys_of(problem, data)
    # A value that is none of several kinds has a problem for each; the one that was written for people says most.
    written = {problem["loc"] for problem in problems if problem["type"] == "value_error"}
    problems = [p for p in problems if p["type"] == "value_error" or p["loc"] not in written]
    # Defaults are part of every table: what is wrong with one is said once. A list with a wrong item also counts as
    # too short, and a misspelled key makes the right one missing.
    from_defaults = {problem["loc"][1:] for problem in problems if problem["loc"][:1] == ("defaults",)}
    problems = [p for p in problems if p["loc"][:1] != ("tables",) or p["loc"][2:] not in from_defaults]
    if len(problems) > 1:
        problems = [problem for problem in problems if problem["type"] != "too_short"]
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    lines = [_unknown_key(problem, data, model) for problem in unknown] or [_problem(p, data) for p in problems]
    # A name may have line breaks in it; its problem is one line all the same.
    return list(dict.fromkeys(line.replace("\n", "\\n") for line in lines))[:_LINES]


def _keys_of(problem: ErrorDetails, data: object) -> tuple[int | str, ...]:
    """Return where a problem is, by keys and numbers alone: pydantic also names the kinds that a value may be of."""
    keys: list[int | str] = []
    for part in problem["loc"]:
        if isinstance(data, Mapping):
            # What stands under `defaults` is said of the tables, too, without being there.
            keys.append(part)
            data = data.get(part, {})
        elif isinstance(part, int) and isinstance(data, (list, tuple)):
            keys.append(part)
            data = data[part] if part < len(data) else None
            # A table may be its name alone.
            data = {} if keys == ["tables", part] and isinstance(data, str) else data
    return tuple(keys)


def _unknown_key(problem: ErrorDetails, data: object, model: type[BaseModel]) -> str:
    *parents, name = problem["loc"]
    return f"{place_of(parents, data)}unknown key {shown(name)}.{nearest(str(name), _keys(parents, model))}"


def _problem(problem: ErrorDetails, data: object) -> str:
    location, kind, value = list(problem["loc"]), problem["type"], problem["input"]
    if kind in ("enum", "literal_error"):
        message = f"is {shown(value)}, which is not one of {problem['ctx']['expected']}"
    elif kind in _MESSAGES:
        message = _MESSAGES[kind]
    else:
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if isinstance(value, (int, float)):
            message += f", not {value}"
    # What is wrong with a whole section or table names its keys itself.
    names_keys = kind == "value_error" and len(location) == 1 and not message.startswith("is ")
    if not location or isinstance(location[-1], int) or names_keys:
        return f"{place_of(location, data)}{message.rstrip('.')}."
    return f"{place_of(location[:-1], data)}{location[-1]} {message.rstrip('.')}."


def place_of(parents: Sequence[int | str], data: object) -> str:
    """Return where something stands, for the beginning of a line about it; a table is named by its source."""
    if not parents:
        return ""
    if parents[0] == "tables" and len(parents) > 1 and isinstance(number := parents[1], int):
        table = data["tables"][number] if isinstance(data, Mapping) else None
        source = table.get("source") if isinstance(table, Mapping) else table
        source = source if may_be_shown(str(source)) else None
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
