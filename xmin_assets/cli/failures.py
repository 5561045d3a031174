"""What failed, said once: a server that is down fails hundreds of tables for one reason."""

from __future__ import annotations

from collections.abc import Sequence

from xmin_assets.cli.console import show_error

_NAMED = 3


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
