"""``xmin-assets doctor``: which tables are synced at the cost of what changed, and what keeps the others from it."""

from __future__ import annotations

from dataclasses import asdict

import click

from xmin_assets.cli.console import show_json
from xmin_assets.cli.failures import failures_of, show_failures
from xmin_assets.cli.interrupt import interruptible
from xmin_assets.cli.options import Invocation, common, tables
from xmin_assets.cli.redaction import redact


@click.command
@tables
@common
@click.pass_obj
def command(invocation: Invocation, tables: tuple[str, ...]) -> int:
    """Say which tables are read by changed blocks, and what to change for the others.

    For all configured tables, or those named. Nothing is copied or changed.
    """
    from xmin_assets.replication.doctor import diagnose

    config = invocation.load()
    secrets = invocation.connection_strings()
    found = interruptible(lambda: diagnose(config, tables=tables))
    failures = failures_of(found)
    if invocation.json:
        shown = [{**asdict(one), "error": redact(one.error, secrets) if one.error else None} for one in found]
        show_json({"tables": shown})
        return 1 if failures else 0
    for one in found:
        if one.error is not None:
            continue
        verdict = "reads only the blocks that changed" if one.fast else "reads every block"
        click.echo(click.style(one.table, bold=True) + f"  {verdict}")
        for missing in one.missing:
            click.echo(f"  {missing.reason}")
            click.echo(f"    {missing.advice}")
    show_failures(failures, secrets)
    return 1 if failures else 0
