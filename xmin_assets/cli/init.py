"""``xmin-assets init``: write a configuration file that lists the source's tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmin_assets.cli.console import show_json
from xmin_assets.cli.interrupt import interruptible
from xmin_assets.cli.options import Invocation, common

if TYPE_CHECKING:
    from xmin_assets.replication.discovery import Discovered

_HEADER = """\
# The tables to keep copies of; remove those that are not wanted.
# Per table: target, mode, key, cursor, cursor_lookback, deletes, delete_detection, columns, exclude_columns, where,
# type_overrides, schema_changes, convert, dropped_columns, triggers, translation, xmin_column, deleted_at_column,
# adopt, max_delete_share, max_change_share.
"""


@click.command
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.option("--schema", default="*", help="Only tables of these schemas, by a pattern such as sales_*.")
@click.option("--include", multiple=True, default=["*"], help="Only tables whose names fit; may be repeated.")
@click.option("--exclude", multiple=True, help="No tables whose names fit; may be repeated.")
@common
@click.pass_obj
def command(
    invocation: Invocation, force: bool, schema: str, include: tuple[str, ...], exclude: tuple[str, ...]
) -> int:
    """Write a configuration of the source's tables.

    The file is the one of --config, else XMIN_CONFIG, else the default. One that exists is left alone, unless a
    pattern stands under tables: there, {schema: sales, include: [order*], exclude: []}; the list of the tables that
    it means is then put in its place.
    """
    from xmin_assets.config import TablePattern, config_path, connection_url, load_pattern
    from xmin_assets.errors import ConfigError
    from xmin_assets.postgres.connection import Database
    from xmin_assets.replication.discovery import discover_tables

    file = config_path(invocation.config_file)
    pattern = load_pattern(file) if file.exists() and not force else None
    if file.exists() and not force and not pattern:
        raise ConfigError(f"The file {file} exists. Name another one with --config, or overwrite it with --force.")
    with Database(connection_url("source"), "source", limit=1) as source:
        tables = interruptible(lambda: discover_tables(source))
    if not tables:
        raise ConfigError("The source has no table that this role may read. Grant SELECT, and USAGE on its schema.")
    meant = pattern or TablePattern(schema=schema, include=include, exclude=exclude)
    tables = tuple(table for table in tables if meant.matches(table.name))
    if not tables:
        raise ConfigError("No table of the source fits the pattern. Look at schema, include and exclude.")
    _write(file, _resolved(file, _render(tables)) if pattern else _HEADER + _render(tables))
    if invocation.json:
        show_json({"file": str(file), "tables": [str(table.name) for table in tables]})
        return 0
    click.echo(f"{file} lists {len(tables)} tables of the source. Next: xmin-assets plan --config {file}")
    return 0


def _render(tables: tuple[Discovered, ...]) -> str:
    from xmin_assets.config.yaml_names import as_yaml

    lines = ["tables:\n"]
    for table in tables:
        lines.append(f"  - source: {as_yaml(table.name)}\n")
        if table.key is None:
            lines.append(
                "    mode: full_sync  # it has no key; name columns that identify a row with key: to do better\n"
            )
    return "".join(lines)


def _resolved(file: Path, listed: str) -> str:
    """Return the file with the list in the place of its pattern; all else stays as it is, comments included."""
    before: list[str] = []
    inside: list[str] = []
    after: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if not inside:
            (inside if re.match(r"\s*tables\s*:", line) else before).append(line)
        elif not after and (not line.strip() or _indent(line) > _indent(inside[0])):
            inside.append(line)
        else:
            after.append(line)
    margin = inside[0][: _indent(inside[0])]
    return "".join([*before, *(margin + line for line in listed.splitlines(keepends=True)), *after])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _write(file: Path, text: str) -> None:
    from xmin_assets.errors import ConfigError

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Beside the file first: a full disk must not leave half a configuration.
        draft = file.with_name(file.name + ".new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        raise ConfigError(f"The file {file} cannot be written: {error.strerror}.") from error
