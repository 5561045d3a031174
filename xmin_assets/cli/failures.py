"""What failed, said once: a server that is down fails hundreds of tables for one reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from xmin_assets.cli.console import show_error

_NAMED = 3


class Result(Protocol):
    """What a command has found of a table."""

    @property
    def table(self) -> str:
        """The name under which people know it."""

    @property
    def error(self) -> str | None:
        """What went wrong; None if nothing did."""


def failures_of(results: Iterable[Result]) -> list[tuple[str, str]]:
    """Return the tables that failed, with their errors."""
    return [(result.table, result.error) for result in results if result.error is not None]


def show_failures(failures: Sequence[tuple[str, str]], connection_strings: tuple[str, ...] = ()) -> None:
    """Print one error for all tables that failed alike.

    Args:
        failures: tables and their errors.
        connection_strings: what may hold passwords.
    """
    tables_by_error: dict[str, list[str]] = {}
    for table, error in failures:
        tables_by_error.setdefault(error.removeprefix(f"{table}: "), []).append(table)
    for error, tables in tables_by_error.items():
        rest = f" and {len(tables) - _NAMED} more" if len(tables) > _NAMED else ""
        show_error(f"{', '.join(tables[:_NAMED])}{rest}: {error}", connection_strings)
