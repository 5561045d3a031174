"""What people read: lines for errors, a table of results. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from xmin_assets.redaction import redact


@dataclass(frozen=True)
class Row:
    """A line of a table, and a sentence that stands below it."""

    cells: Sequence[object]
    note: str = ""
    failed: bool = False
    """Whether somebody has to do something about it."""


def show_json(value: object) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def show_error(message: str, connection_strings: tuple[str, ...] = ()) -> None:
    """Print an error on stderr."""
    label = click.style("Error:", fg="red", bold=True)
    click.echo(f"{label} {redact(message, connection_strings)}", err=True, color=color())


def show_note(message: str, connection_strings: tuple[str, ...] = ()) -> None:
    """Print a line on stderr."""
    click.echo(redact(message, connection_strings), err=True, color=color())


def show_table(heads: Sequence[str], rows: Sequence[Row]) -> None:
    """Print rows on stdout: the first column to the left, the others, which are numbers, to the right."""
    texts = [[_text(cell) for cell in row.cells] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    others = sum(widths[1:]) + 2 * len(widths[1:])
    if sys.stdout.isatty():
        widths[0] = max(len(heads[0]), min(widths[0], width() - others))
    click.echo(click.style(_line(heads, widths), bold=True), color=color())
    for row, cells in zip(rows, texts, strict=True):
        red = "red" if row.failed else None
        click.echo(click.style(_line(cells, widths), fg=red), color=color())
        if row.note:
            click.echo(click.style(f"  {row.note}", fg=red, dim=not row.failed), color=color())


def width() -> int:
    """Return how many columns a line may have: the terminal's, or 80 where there is none."""
    return shutil.get_terminal_size().columns


def color() -> bool | None:
    """Return False where the user wants none (https://no-color.org), None where the stream decides."""
    return False if os.environ.get("NO_COLOR") else None


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.2f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        [
            _shortened(cells[0], widths[0]).ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)),
        ]
    )


def _shortened(text: str, width: int) -> str:
    # In the middle: names often differ at their ends.
    if len(text) <= width:
        return text
    kept = width - 1
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
