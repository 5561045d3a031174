"""What a server was asked for, as a table: what each fact is for, what is lost without it, and the grant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from xmin_assets.cli.console import color

if TYPE_CHECKING:
    from xmin_assets.replication.doctor import ServerDiagnosis, ServerFact

WIDE = 120
"""Columns of a terminal from which each text has a column of its own."""


def show_facts(server: ServerDiagnosis) -> None:
    """Print on stdout what a server tells and what it does not."""
    told = len(server.facts) - len(server.missing)
    summary = f"PostgreSQL {server.version} tells {told} of {len(server.facts)} facts"
    click.echo(click.style(server.side, bold=True) + f"  {summary}", color=color())
    console = Console(highlight=False, no_color=True if color() is False else None)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, expand=False)
    table.add_column("fact", no_wrap=True)
    table.add_column("told", no_wrap=True)
    if console.width >= WIDE:
        for head in ("what it is for", "lost without it", "the grant that gives it"):
            table.add_column(head, overflow="fold")
        for fact in server.facts:
            table.add_row(fact.name, _told(fact), fact.purpose, fact.without, fact.grant)
    else:
        table.add_column("what it is for, and what is lost without it", overflow="fold")
        for fact in server.facts:
            lost = [] if fact.told else [f"Without it {fact.without}."]
            table.add_row(fact.name, _told(fact), Group(fact.purpose, *lost))
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())
    for fact in server.missing:
        click.echo(f"  {fact.grant};")  # in one line, to be copied


def _told(fact: ServerFact) -> Text:
    if fact.told:
        return Text("yes")
    return Text("NEEDED" if fact.stops else "no", style="bold red" if fact.stops else "yellow")
