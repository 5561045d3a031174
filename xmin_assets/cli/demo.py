"""``xmin-assets demo``: two PostgreSQL servers of one's own, and tables that change. Needs the extra ``demo``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmin_assets.cli.console import show_json, show_note
from xmin_assets.cli.options import Invocation, common

if TYPE_CHECKING:
    from xmin_assets.demo.workload import LoadReport


@click.group
def command() -> None:
    """Run two servers of your own, to try it out.

    They live in the current directory.
    """


@command.command
@common
@click.pass_obj
def up(invocation: Invocation) -> int:
    """Start the two servers, with sample tables, and write .env."""
    from xmin_assets.demo import server_pair

    demo = server_pair.up(Path.cwd())
    if invocation.json:
        # No URLs: they hold passwords, and stand in .env.
        show_json({"started": list(demo.started), "ports": {"source": demo.source.port, "target": demo.target.port}})
        return 0
    state = "started" if demo.started else "already running"
    click.echo(f"Source and target {state} on ports {demo.source.port} and {demo.target.port} of 127.0.0.1.")
    click.echo("Their addresses are in .env. Next: xmin-assets sync, or dagster dev.")
    return 0


@command.command
@click.option("--purge", is_flag=True, help="Delete their data, too.")
@common
@click.pass_obj
def down(invocation: Invocation, purge: bool) -> int:
    """Stop the two servers."""
    from xmin_assets.demo import server_pair

    stopped = server_pair.down(Path.cwd(), purge=purge)
    if invocation.json:
        show_json({"stopped": list(stopped), "purged": purge})
        return 0
    click.echo(f"Stopped: {', '.join(stopped)}." if stopped else "The demo's servers were not running.")
    if purge:
        click.echo("Their data is deleted.")
    return 0


@command.command
@click.option("--seconds", type=float, default=60, show_default=True, help="How long.")
@click.option("--rate", type=float, default=20, show_default=True, help="Transactions a second, about.")
@common
@click.pass_obj
def load(invocation: Invocation, seconds: float, rate: float) -> int:
    """Keep changing the source; Ctrl-C ends it earlier."""
    from xmin_assets.demo.workload import load as change_source

    show_note(f"Changing the source for {seconds:g} s; Ctrl-C ends it earlier.")
    result = change_source(Path.cwd(), seconds=seconds, rate=rate, progress=_every(5.0))
    if invocation.json:
        show_json(asdict(result))
    else:
        click.echo(_describe(result))
    return 0


@command.command
def run() -> int:
    """Walk through it all: sync, change, sync again."""
    from xmin_assets.demo.walkthrough import run_demo

    run_demo(Path.cwd())
    return 0


def _every(interval: float) -> Callable[[LoadReport], None]:
    """Say how far it is, once every `interval` seconds."""
    due = time.monotonic() + interval

    def show(report: LoadReport) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + interval
            show_note(_describe(report))

    return show


def _describe(report: LoadReport) -> str:
    return (
        f"{report.transactions:,} transactions committed ({report.late:,} of them late): {report.inserted:,} rows "
        f"inserted, {report.updated:,} updated, {report.deleted:,} deleted; {report.rolled_back:,} rolled back."
    )
