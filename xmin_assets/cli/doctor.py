"""``xmin-assets doctor``: which tables are synced at the cost of what changed, and what both servers tell."""

from __future__ import annotations

from dataclasses import asdict

import click

from xmin_assets.cli.console import show_json
from xmin_assets.cli.failures import failures_of, show_failures
from xmin_assets.cli.interrupt import interruptible
from xmin_assets.cli.options import Invocation, common, tables
from xmin_assets.redaction import redact


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
    for one in found:
        if one.error is not None:
            continue
        verdict = "reads only the blocks that changed" if one.fast else "reads every block"
        click.echo(click.style(one.table, bold=True) + f"  {verdict}")
        for missing in one.missing:
            click.echo(f"  {missing.reason}")
            click.echo(f"    {missing.advice}")
        if one.triggers:
            click.echo(f"  in the target fire in every merge: {', '.join(one.triggers)}")
            click.echo("    Set triggers: skip to have the source's values as they are.")
    for server in servers:
        if server.error is None:
            show_facts(server)
    show_failures(failures, secrets)
    return 1 if failures or stopped else 0
