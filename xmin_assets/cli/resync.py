"""``xmin-assets resync``: forget watermarks, so that the next sync reads and compares everything."""

from __future__ import annotations

import click

from xmin_assets.cli.console import show_json
from xmin_assets.cli.interrupt import interruptible
from xmin_assets.cli.options import Invocation, common, tables


@click.command
@tables
@click.option("--restart", is_flag=True, help="Give up a load by chunks that is under way: it begins anew.")
@click.option("--all", "everything", is_flag=True, help="All configured tables.")
@common
@click.pass_obj
def command(invocation: Invocation, tables: tuple[str, ...], everything: bool, restart: bool) -> int:
    """Make the next sync read everything.

    The named tables' watermarks are forgotten: their next sync reads and compares every row.
    """
    if bool(tables) == everything:
        raise click.UsageError("Name the tables to resync, or give --all.")
    from xmin_assets.replication.sync import resync_tables

    config = invocation.load()
    forgotten = interruptible(lambda: resync_tables(config, tables=tables, restart=restart))
    if invocation.json:
        show_json({"tables": list(forgotten)})
        return 0
    for table in forgotten:
        click.echo(f"{table}: the next sync reads and compares every row")
    if not forgotten:
        click.echo("Nothing to forget: none of these tables was synced yet, so their next sync reads everything.")
    return 0
