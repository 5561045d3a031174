"""``xmin-assets clean``: remove what crashed syncs left behind."""

from __future__ import annotations

from dataclasses import asdict

import click

from xmin_assets.cli.console import show_json
from xmin_assets.cli.interrupt import interruptible
from xmin_assets.cli.options import Invocation, common


@click.command
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Leave what is younger: it may be in use.",
)
@common
@click.pass_obj
def command(invocation: Invocation, older_than: float) -> int:
    """Remove what crashed syncs left behind.

    Staged tables in the target and CSV files in the spool.
    """
    from xmin_assets.replication.clean import clean

    config = invocation.load()
    removed = interruptible(lambda: clean(config, older_than=older_than * 3600))
    if invocation.json:
        show_json(asdict(removed))
        return 0
    for name in removed.staged_tables:
        click.echo(f"dropped {name}")
    for name in removed.spool:
        click.echo(f"deleted {name}")
    if not removed.staged_tables and not removed.spool:
        click.echo(f"Nothing is left over from syncs more than {older_than:g} hours ago.")
    return 0
