"""What a statement returned, by the names of its columns.

A row that should be there and is not is an error, and never a silent 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg2.extensions as ext

from xmin_assets.errors import ServerError

Row = TypeVar("Row")
Value = TypeVar("Value")


def fetch_value(cursor: ext.cursor, kind: type[Value]) -> Value:
    """Return the only value of the only row.

    Args:
        cursor: after a statement that returns one row of one column.
        kind: what to make of the value; `int` makes one of a numeric, too.

    Raises:
        ServerError: there is no row or another number of them, or the value is NULL.
    """
    value = fetch_value_or_none(cursor, kind)
    if value is None:
        raise ServerError(_unexpected(cursor, "NULL, where a value was expected"))
    return value


def fetch_value_or_none(cursor: ext.cursor, kind: type[Value]) -> Value | None:
    """Return the only value of the only row; None where it is NULL.

    Raises:
        ServerError: there is no row, or more than one.
    """
    (value,) = _only_row(cursor)
    return None if value is None else kind(value)  # type: ignore[call-arg]


def fetch_value_if_any(cursor: ext.cursor, kind: type[Value]) -> Value | None:
    """Return the only value of the first row; None where there is no row, or the value is NULL."""
    rows = cursor.fetchall()
    return None if not rows or rows[0][0] is None else kind(rows[0][0])  # type: ignore[call-arg]


def fetch_one_as(cursor: ext.cursor, cls: Callable[..., Row]) -> Row:
    """Return the only row as an instance of a class whose fields are named like the columns.

    Raises:
        ServerError: there is no row, or more than one.
    """
    return cls(**dict(zip(_names(cursor), _only_row(cursor), strict=True)))


def fetch_as(cursor: ext.cursor, cls: Callable[..., Row]) -> list[Row]:
    """Return every row as an instance of a class whose fields are named like the columns."""
    names = _names(cursor)
    return [cls(**dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _only_row(cursor: ext.cursor) -> tuple[Any, ...]:
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    if len(rows) != 1:
        raise ServerError(_unexpected(cursor, f"{len(rows)} rows, where one was expected"))
    return rows[0]


def _names(cursor: ext.cursor) -> list[str]:
    return [column.name for column in cursor.description or ()]


def _unexpected(cursor: ext.cursor, found: str) -> str:
    columns = ", ".join(_names(cursor))
    return f"A statement that returns {columns} gave {found}. Something between here and the server changed it."
