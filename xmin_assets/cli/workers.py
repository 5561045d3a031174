"""``xmin-assets workers``: how many workers this machine gets, and why."""

from __future__ import annotations

from dataclasses import asdict

import click

from xmin_assets.cli.console import show_json
from xmin_assets.cli.options import Invocation, common


@click.command
@common
@click.pass_obj
def command(invocation: Invocation) -> int:
    """Show how many workers suit this machine."""
    from xmin_assets.config import Settings, config_path
    from xmin_assets.replication.runtime.sizing import GIB, observe_machine, recommend_workers

    # It is asked before there is a configuration, too; one that is named must be there.
    named = invocation.config_file is not None or config_path().exists()
    settings = invocation.load().settings if named else Settings()
    machine = observe_machine()
    recommended = recommend_workers(machine, settings.min_workers, settings.max_workers)
    if invocation.json:
        show_json({**asdict(machine), **asdict(recommended), "configured": settings.workers})
        return 0
    memory = "unknown" if machine.memory_available is None else f"{machine.memory_available / GIB:.1f} GiB"
    click.echo(f"cores              {machine.cores or 'unknown'}")
    click.echo(f"logical cores      {machine.logical_cores or 'unknown'}")
    click.echo(f"memory available   {memory}")
    click.echo(f"recommended        {recommended.workers} workers ({recommended.reason})")
    if settings.workers is not None:
        click.echo(f"configured         {settings.workers} workers (this is what a sync uses)")
    return 0
