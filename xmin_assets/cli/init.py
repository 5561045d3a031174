"""``xmin-assets init``: write a configuration file that lists the source's tables."""

from __future__ import annotations

import json
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
# type_overrides, schema_changes, dropped_columns, xmin_column, deleted_at_column, adopt, max_delete_share.
"""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@click.command
@click.option("--force", is_flag=True, help="Overwrite the file.")
@common
@click.pass_obj
def command(invocation: Invocation, force: bool) -> int:
    """Write a configuration of the source's tables.

    The file is the one of --config, else XMIN_CONFIG, else the default; one that exists is left alone.
    """
    from xmin_assets.config import config_path, connection_url
    from xmin_assets.errors import ConfigError
    from xmin_assets.postgres.connection import Database
    from xmin_assets.replication.discovery import discover_tables

    file = config_path(invocation.config_file)
    if file.exists() and not force:
        raise ConfigError(f"The file {file} exists. Name another one with --config, or overwrite it with --force.")
    with Database(connection_url("source"), "source", limit=1) as source:
        tables = interruptible(lambda: discover_tables(source))
    if not tables:
        raise ConfigError("The source has no table that this role may read. Grant SELECT, and USAGE on its schema.")
    _write(file, _render(tables))
    if invocation.json:
        show_json({"file": str(file), "tables": [str(table.name) for table in tables]})
        return 0
    click.echo(f"{file} lists {len(tables)} tables of the source. Next: xmin-assets plan --config {file}")
    return 0


def _render(tables: tuple[Discovered, ...]) -> str:
    lines = [_HEADER, "tables:\n"]
    for table in tables:
        # JSON's strings are YAML's, and quotes in a name need no thought.
        name = str(table.name)
        said = name if _PLAIN.fullmatch(name) else json.dumps(name)
        lines.append(f"  - source: {said}\n")
        if table.key is None:
            lines.append(
                "    mode: full_sync  # it has no key; name columns that identify a row with key: to do better\n"
            )
    return "".join(lines)


def _write(file: Path, text: str) -> None:
    from xmin_assets.errors import ConfigError

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Beside the file first: a full disk must not leave half a configuration.
        draft = file.with_name(file.name + ".new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        raise ConfigError(f"The file {file} cannot be written: {error.strerror}.") from None
