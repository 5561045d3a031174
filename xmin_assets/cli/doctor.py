"""``xmin-assets doctor``: which tables are synced at the cost of what changed, and what both servers tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from xmin_assets.cli.console import show_json, width
from xmin_assets.cli.failures import failures_of, show_failures
from xmin_assets.cli.interrupt import interruptible
from xmin_assets.cli.options import Invocation, common, tables
from xmin_assets.redaction import redact

if TYPE_CHECKING:
    from xmin_assets.replication.changed_blocks.prerequisites import MissingPrerequisite
    from xmin_assets.replication.doctor import Diagnosis

_NAMED_IN_LINE = 3
"""Tables that are named where more would be counted."""


@click.command
@tables
@common
@click.pass_obj
def command(invocation: Invocation, tables: tuple[str, ...]) -> int:
    """Say which tables are read by changed blocks, and what to change for the others.

    For all configured tables, or those named; and what the two servers do not tell, what that costs, and what to grant.
    Nothing is copied or changed. Ends with 1 if a sync needs something that is missing.
    """
    from xmin_assets.cli.facts_table import show_facts
    from xmin_assets.replication.doctor import diagnose, diagnose_servers

    config = invocation.load()
    secrets = invocation.connection_strings()
    found, servers = interruptible(lambda: (diagnose(config, tables=tables), diagnose_servers(config)))
    failures = failures_of(found)
    stopped = any(fact.stops for server in servers for fact in server.facts)
    if invocation.json:
        shown = {
            what: [{**asdict(one), "error": redact(one.error, secrets) if one.error else None} for one in those]
            for what, those in (("tables", found), ("servers", servers))
        }
        show_json(shown)
        return 1 if failures or stopped else 0
    _show_tables([one for one in found if one.error is None])
    for server in servers:
        if server.error is None:
            show_facts(server)
    show_failures(failures, secrets)
    return 1 if failures or stopped else 0


def _show_tables(found: Sequence[Diagnosis]) -> None:
    """Print tables by what they lack; what all of them lack stands once, below them."""
    groups: dict[tuple[MissingPrerequisite, ...], list[str]] = {}
    for one in found:
        groups.setdefault(one.missing, []).append(one.table)
    slow = [missing for missing in groups if missing]
    common = [one for one in slow[0] if all(one in missing for missing in slow)] if len(slow) > 1 else []
    for missing, names in sorted(groups.items(), key=lambda group: len(group[0])):
        _show_group(names, fast=not missing)
        _show_missing([one for one in missing if one not in common])
    if common:
        click.echo(click.style("all that read every block", bold=True))
        _show_missing(common)
    for one in found:
        if one.triggers:
            click.echo(f"{one.table}: in the target fire in every merge: {', '.join(one.triggers)}")
    if any(one.triggers for one in found):
        click.echo("  Set triggers: skip to have the source's values as they are.")


def _show_group(tables: Sequence[str], *, fast: bool) -> None:
    s = "s" if len(tables) == 1 else ""
    verdict = f"read{s} only the blocks that changed" if fast else f"read{s} every block"
    if len(tables) <= _NAMED_IN_LINE:
        click.echo(click.style(", ".join(tables), bold=True) + f"  {verdict}")
        return
    click.echo(click.style(f"{len(tables)} tables", bold=True) + f"  {verdict}")
    click.echo(click.wrap_text(", ".join(tables), width(), initial_indent="  ", subsequent_indent="  "))


def _show_missing(missing: Sequence[MissingPrerequisite]) -> None:
    for one in missing:
        click.echo(f"  {one.reason}")
        click.echo(f"    {one.advice}")
