"""What ``make demo`` shows: a sync, a source that changes, another sync, and that both sides are equal.

It can be told again: the servers go on, the source changes anew, and both syncs bring what changed since.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
from rich.console import Console
from rich.table import Table

from xmin_assets.config import ReplicationConfig, parse_config
from xmin_assets.demo import server_pair
from xmin_assets.demo.changes import CHANGES
from xmin_assets.demo.equality import compare
from xmin_assets.demo.errors import DemoError
from xmin_assets.demo.memory import FOLDER
from xmin_assets.demo.sample import TABLES
from xmin_assets.replication.manifests.report import SyncReport
from xmin_assets.replication.sync import sync_tables

# Rows per statement, one of each kind for each table.
ROWS = {"insert": 500, "update": 2000, "delete": 250}


def run_demo(directory: Path, console: Console | None = None) -> None:
    """Walk through the demo in ``directory`` and leave the servers running.

    Raises DemoError when a sync fails or the target is not equal to the source.
    """
    console = console or Console()
    console.print("[bold]1.[/] Two PostgreSQL servers, a source and a target")
    demo = server_pair.up(directory)
    console.print(f"   {_started(demo)}")
    console.print(f"   tables: {', '.join(TABLES)}\n")

    # The tables of the demo, whatever this deployment's configuration names by now.
    spool = directory.resolve() / FOLDER / "spool"
    parts = {"tables": list(TABLES), "defaults": {"track_blocks": True}, "settings": {"spool": str(spool)}}
    config = parse_config(parts)
    with _environment(demo.environment):
        _sync("2", "Sync", config, console)

        console.print("[bold]3.[/] The source changes")
        for table, counts in _change_source(demo.app_url).items():
            said = ", ".join(f"{counts[kind]:,} {kind}{'d' if kind.endswith('e') else 'ed'}" for kind in ROWS)
            console.print(f"   {table}: {said}")
        console.print()

        _sync("4", "Sync again", config, console)

    console.print("[bold]5.[/] Target and source compared, value by value")
    comparisons = compare(demo.source_url, demo.target_url, TABLES)
    for found in comparisons:
        verdict = "[green]equal[/]" if found.same else "[red]not equal[/]"
        rows = f"{found.source_rows:,} rows at the source, {found.target_rows:,} in the target"
        console.print(f"   {found.table}: {verdict}, {rows}")
    if not all(found.same for found in comparisons):
        raise DemoError("The target is not equal to the source. Was the source changed meanwhile (demo load)?")
    _say_what_is_next(console)


def _started(demo: server_pair.ServerPair) -> str:
    state = "started" if demo.started else "already running"
    return f"{state} on ports {demo.source.port} and {demo.target.port} of 127.0.0.1"


def _sync(number: str, title: str, config: ReplicationConfig, console: Console) -> None:
    console.print(f"[bold]{number}.[/] {title}")
    began = time.monotonic()
    report = sync_tables(config)
    console.print(_as_table(report))
    console.print(f"   {time.monotonic() - began:.1f} s for all\n")
    failed = [f"{result.table}: {result.error}" for result in report.tables if result.status != "success"]
    if failed:
        raise DemoError("A sync failed. " + "\n".join(failed))


def _as_table(report: SyncReport) -> Table:
    # 80 columns are enough for it, which is all that a log or a plain terminal has.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("table", "mode"):
        table.add_column(heading, no_wrap=True)
    for heading in ("extracted", "inserted", "updated", "deleted", "blocks", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in report.tables:
        rows = (result.rows_extracted, result.rows_inserted, result.rows_updated, result.rows_deleted)
        table.add_row(
            result.table.removeprefix("public."),
            (result.mode or result.status).removeprefix("xmin_"),
            *(f"{count:,}" for count in rows),
            # The path begins with their number: 12 of 7,859 blocks.
            "all" if result.blocks_changed is None else (result.path or "").partition(" blocks")[0],
            f"{sum(result.seconds.values()):.2f}",
        )
    return table


def _change_source(app_url: str) -> Mapping[str, Counter[str]]:
    """Make one change of each kind to each table, and return the rows changed, as the server counted them.

    Deletes come first and inserts last, so that no row is changed twice and the syncs' counts can be compared.
    """
    done: dict[str, Counter[str]] = {table: Counter() for table in TABLES}
    with closing(psycopg2.connect(app_url)) as connected, connected, connected.cursor() as cursor:
        for kind in ("delete", "update", "insert"):
            for change in CHANGES:
                if change.kind == kind:
                    done[change.table][kind] += change.apply(cursor, ROWS[kind])
    return done


def _say_what_is_next(console: Console) -> None:
    console.print(
        "\nThe servers keep running, and .env has their addresses. Next:\n"
        "   [bold]make dev[/]                        the Dagster UI (or .venv/bin/dagster dev)\n"
        "   [bold].venv/bin/xmin-assets demo load[/] change the source for a minute\n"
        "   [bold].venv/bin/xmin-assets sync[/]      sync again from the terminal\n"
        "   [bold].venv/bin/xmin-assets demo down[/] stop the servers (--purge deletes their data)",
        highlight=False,
    )


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables, which go before everything else that may be configured, and put them back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
