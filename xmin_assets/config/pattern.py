"""Tables named by a pattern, as long as nobody has asked the source which ones these are."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field, field_validator

from xmin_assets.config.base import Strict
from xmin_assets.postgres.identifiers import QualifiedName

UNRESOLVED = (
    "is a pattern, not a list of tables; run xmin-assets init, which asks the source and puts the list in its place"
)


class TablePattern(Strict):
    """``tables: {schema: sales, include: ["order*"], exclude: ["*_old"]}``."""

    schema_: str = Field(default="*", alias="schema", description="The schemas, by a pattern such as `sales_*`.")
    include: tuple[str, ...] = Field(default=("*",), min_length=1, description="Patterns of the tables' names.")
    exclude: tuple[str, ...] = Field(default=(), description="Patterns of names that are left out.")

    @field_validator("include", "exclude", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    def matches(self, name: QualifiedName) -> bool:
        """Return whether a table is meant. ``*`` stands for any characters, ``?`` for one; capitals count."""
        if not fnmatchcase(name.schema, self.schema_):
            return False
        included = any(fnmatchcase(name.name, pattern) for pattern in self.include)
        return included and not any(fnmatchcase(name.name, pattern) for pattern in self.exclude)


def is_pattern(tables: Any) -> bool:
    """Return whether what stands under ``tables:`` is a pattern and not a list."""
    return isinstance(tables, dict)
