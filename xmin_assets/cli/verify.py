"""``xmin-assets verify``: compare the target with the source, and say what differs and what to do about it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, cast

import click

from xmin_assets.cli.console import Row, show_json, show_table
from xmin_assets.cli.failures import failures_of, show_failures
from xmin_assets.cli.interrupt import Stopped, interruptible
from xmin_assets.cli.options import Invocation, common, tables
from xmin_assets.redaction import redact

if TYPE_CHECKING:
    from xmin_assets.replication.verification.verify import TableVerification, Verification

_FAULTS = ("missing", "extra", "different")


@click.command
@tables
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Compare only this share of the rows, above 0 and up to 1, another choice each time.",
)
@click.option("--workers", type=int, metavar="N", help="Connections per table on each side.")
@common
@click.pass_obj
def command(invocation: Invocation, tables: tuple[str, ...], sample: float | None, workers: int | None) -> int:
    """Compare the target with the source.

    All configured tables, or those named. No table is written, and both sides may be written to meanwhile: what the
    next sync will bring is pending, and no mismatch.
    """
    from xmin_assets.cli.progress import progress_display
    from xmin_assets.replication.verification.verify import verify_tables

    config = invocation.load(workers=workers)
    count = len(config.select(tables))
    try:
        with progress_display(count) as report:
            result = interruptible(
                lambda: verify_tables(config, tables=tables, sample=sample, on_progress=report), stopping="Stopping."
            )
    except Stopped as stop:
        if stop.result is not None:
            _show(cast("Verification", stop.result), invocation)
        raise
    _show(result, invocation)
    return 0 if result.ok else 1


def _show(result: Verification, invocation: Invocation) -> None:
    secrets = invocation.connection_strings()
    if invocation.json:
        show_json({"tables": [_json(table, secrets) for table in result.tables]})
        return
    done = [table for table in result.tables if table.error is None]
    if done:
        heads = ("table", "status", "rows", "missing", "extra", "different", "pending", "seconds")
        show_table(heads, [_row(table) for table in done])
    for table in done:
        if table.status == "mismatch":
            _show_mismatch(table)
    show_failures(failures_of(result.tables), secrets)


def _row(table: TableVerification) -> Row:
    counts = (table.missing, table.extra, table.different, table.pending)
    cells = (table.table, table.status, table.rows_source, *counts, table.seconds)
    return Row(cells, table.note or "", failed=table.status == "mismatch")


def _show_mismatch(table: TableVerification) -> None:
    click.echo(f"\n{table.table} is not what the last sync left:")
    for kind, keys in table.examples.items():
        if kind in _FAULTS and keys:
            click.echo(f"  {kind}: {', '.join(map(_key, keys))}")
    name = shlex.quote(table.table)
    click.echo(f"  To mend it: xmin-assets resync {name} && xmin-assets sync {name}")


def _key(columns: dict[str, str]) -> str:
    return "(" + ", ".join(f"{name}={value}" for name, value in columns.items()) + ")"


def _json(table: TableVerification, secrets: tuple[str, ...]) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(table) | {"error": redact(table.error, secrets) if table.error is not None else None}
