"""Templates in a configuration: ``{{ env.NAME }}``, and in a component of Dagster whatever its scope has.

Jinja renders them, as Dagster does. A text without braces stays as it is, a text that is one expression becomes the
expression's value, and of any other the values are put in as text: nothing is read as Python a second time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from xmin_assets.config.validation_messages import nearest
from xmin_assets.errors import ConfigError
from xmin_assets.redaction import may_be_shown

if TYPE_CHECKING:
    from jinja2 import Environment

_VARIABLE = re.compile(r"\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_BRACES = re.compile(r"\{[{%#]")


def render(text: str, place: str, scope: Mapping[str, Any] | None = None) -> Any:
    """Return what a text means.

    Args:
        text: any text.
        place: where it stands, for the error.
        scope: what templates may name beside ``env``.

    Raises:
        ConfigError: a variable is not set, a name is unknown, or it is no template.
    """
    if _has_variables_alone(text):
        # By far the most common, and Jinja takes longer to import than the rest of the configuration to read.
        return _VARIABLE.sub(lambda match: _variable(match.group(1), place), text)
    from jinja2 import TemplateError, UndefinedError
    from jinja2.nodes import TemplateData

    environment = _jinja()
    names = {**(scope or {}), "env": _Variables(place)}
    try:
        parts = [node for output in environment.parse(text).body for node in getattr(output, "nodes", (None, None))]
        if len(parts) != 1 or isinstance(parts[0], TemplateData):
            return environment.from_string(text).render(names)
        expression = text[2:-2].removeprefix("-").removesuffix("-")
        value = environment.compile_expression(expression, undefined_to_none=False)(**names)
        str(value)  # of an undefined name this raises
        return value
    except ConfigError:
        raise
    except UndefinedError as error:
        raise ConfigError(f"{place}: {_unknown(str(error.message), scope, may_quote=may_be_shown(text))}") from None
    except TemplateError as error:
        # Jinja quotes the text, in which a password may have braces.
        why = f" ({str(error.message).rstrip('.')})" if may_be_shown(text) else ""
        raise ConfigError(
            f"{place} has braces in it that are no template{why}. Braces that are meant as they stand are written "
            "{% raw %}...{% endraw %}."
        ) from None
    except Exception as error:  # noqa: BLE001 - a template may call the user's own functions
        raise ConfigError(f"{place}: its template raises {type(error).__name__}: {error}") from None


def names_env_alone(text: str) -> bool:
    """Whether a text needs nothing but variables of the environment to be rendered."""
    if _has_variables_alone(text):
        return True
    from jinja2 import TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables

    try:
        return find_undeclared_variables(_jinja().parse(text)) <= {"env"}
    except TemplateSyntaxError:
        return False


def _has_variables_alone(text: str) -> bool:
    return not _BRACES.search(_VARIABLE.sub("", text))


@cache
def _jinja() -> Environment:
    from jinja2 import Environment, StrictUndefined

    # The result is data and no page: nothing is escaped.
    return Environment(undefined=StrictUndefined, keep_trailing_newline=True)


def _variable(name: str, place: str) -> str:
    try:
        return os.environ[name]
    except KeyError as error:
        raise ConfigError(f"{place} uses the variable {name}, which is not set.") from error


class _Variables:
    """``env`` in a template: ``env.NAME``, ``env('NAME')`` and ``env('NAME', 'default')``, as Dagster has it."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __call__(self, name: str, *default: Any) -> Any:
        return os.environ.get(name, default[0]) if default else _variable(name, self._place)

    def __getattr__(self, name: str) -> str:
        if name.startswith(("_", "jinja")):  # Jinja looks for attributes of its own
            raise AttributeError(name)
        return _variable(name, self._place)


def _unknown(problem: str, scope: Mapping[str, Any] | None, *, may_quote: bool) -> str:
    name, undefined, _ = problem.partition(" is undefined")
    name = name.strip("'") if may_quote else "a name"
    if not undefined and not may_quote:
        return "its template cannot be rendered."
    if not undefined:
        return f"its template cannot be rendered: {problem}."
    if scope is None:
        return (
            f"its template uses {name}, which only Dagster can know (template_vars_module). Outside of Dagster a "
            "template may use variables of the environment: {{ env.NAME }}."
        )
    return f"its template uses {name}, which is not known.{nearest(name, [*scope, 'env'])}"
