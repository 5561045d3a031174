"""``xmin-assets sync``: bring the target tables up to date, and say what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from xmin_assets.cli.console import Row, show_json, show_note, show_table
from xmin_assets.cli.failures import failures_of, show_failures
from xmin_assets.cli.interrupt import Stopped, interruptible
from xmin_assets.cli.options import Invocation, common, overrides, tables
from xmin_assets.redaction import redact

if TYPE_CHECKING:
    from xmin_assets.replication.manifests.report import SyncReport, TableResult

_ALL_LISTED = 20
"""Of more tables than this, those without changes are only counted."""


@click.command
@tables
@click.option("--allow-mass-delete", is_flag=True, help="Lift the limit on deletes, this once.")
@click.option("--allow-mass-change", is_flag=True, help="Let another source replace a copy's rows, this once.")
@click.option(
    "--refill", multiple=True, metavar="COLUMN", help="Read a column's values again if they do not convert, this once."
)
@overrides
@common
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    tables: tuple[str, ...],
    allow_mass_delete: bool,
    allow_mass_change: bool,
    refill: tuple[str, ...],
    **settings: object,
) -> int:
    """Bring the target up to date with the source.

    All configured tables, or those named; one that fails does not stop the others.
    """
    from xmin_assets.cli.progress import progress_display
    from xmin_assets.replication.sync import sync_tables

    config = invocation.load(**settings)
    if refill:
        config = config.refilling(refill, tables)
    count = len(config.select(tables))
    try:
        with progress_display(count) as report:
            result = interruptible(
                lambda: sync_tables(
                    config,
                    tables=tables,
                    allow_mass_delete=allow_mass_delete,
                    allow_mass_change=allow_mass_change,
                    on_progress=report,
                )
            )
    except Stopped as stop:
        if stop.result is not None:
            _show(cast("SyncReport", stop.result), invocation)
        raise
    _show(result, invocation)
    if not invocation.json:
        failures = failures_of(result.tables)
        show_failures(failures, invocation.connection_strings())
    return 0 if result.ok else 1


def _show(report: SyncReport, invocation: Invocation) -> None:
    secrets = invocation.connection_strings()
    if invocation.json:
        show_json({"tables": [_json(table, secrets) for table in report.tables]})
        return
    for table in report.tables:
        if table.status == "paused":
            show_note(redact(table.reason or "", secrets))
    done = [table for table in report.tables if table.status == "success"]
    listed = done if len(done) <= _ALL_LISTED else [table for table in done if any(_counts(table))]
    if listed:
        heads = ("table", "extracted", "inserted", "updated", "deleted", "seconds")
        show_table(heads, [_row(table) for table in listed])
    if len(listed) < len(done):
        click.echo(f"{len(done) - len(listed)} tables had no changes.")


def _json(result: TableResult, secrets: tuple[str, ...]) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(result) | {"error": redact(result.error, secrets) if result.error is not None else None}


def _counts(result: TableResult) -> tuple[int, int, int, int]:
    return result.rows_extracted, result.rows_inserted, result.rows_updated, result.rows_deleted


def _row(result: TableResult) -> Row:
    return Row((result.table, *_counts(result), sum(result.seconds.values())), f"{result.mode}: {result.reason}")
