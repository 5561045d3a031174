"""``xmin-assets status``: what the target remembers of each table's last sync, and what holds the next one back."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from xmin_assets.cli.console import Row, show_json, show_note, show_table
from xmin_assets.cli.failures import failures_of, show_failures
from xmin_assets.cli.interrupt import interruptible
from xmin_assets.cli.options import Invocation, common, tables
from xmin_assets.redaction import redact

if TYPE_CHECKING:
    from xmin_assets.config import ReplicationConfig
    from xmin_assets.replication.state.history import PastMerge
    from xmin_assets.replication.status import SourceStatus, TableHistory, TableStatus


@click.command
@tables
@click.option("--history", is_flag=True, help="Show each table's last merges, newest first.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "prometheus"]),
    default="text",
    help="`prometheus` prints metrics for a textfile collector; `json` is what --json prints.",
)
@common
@click.pass_obj
def command(invocation: Invocation, tables: tuple[str, ...], history: bool, form: str) -> int:
    """Show the last sync of each table.

    Of all configured tables, or those named. No table is read.
    """
    config = invocation.load()
    invocation.json = invocation.json or form == "json"
    if form == "prometheus":
        if history or invocation.json:
            raise click.UsageError("Metrics have a form of their own: leave out --history and --json.")
        return _metrics(config, tables)
    return _histories(invocation, config, tables) if history else _statuses(invocation, config, tables)


def _statuses(invocation: Invocation, config: ReplicationConfig, tables: tuple[str, ...]) -> int:
    from xmin_assets.replication.status import source_status, table_statuses

    secrets = invocation.connection_strings()
    statuses = interruptible(lambda: table_statuses(config, tables=tables))
    source = interruptible(lambda: source_status(config))
    failures = failures_of(statuses)
    if invocation.json:
        tables_json = [_json(status, source, secrets) for status in statuses]
        show_json({"tables": tables_json, "source": _source_json(source, secrets)})
    else:
        shown = [status for status in statuses if status.error is None]
        if shown:
            show_table(
                ("table", "last sync", "age", "rows", "watermark", "max xmin", "behind"),
                [_row(status, source, secrets) for status in shown],
            )
        _show_source(source, config.settings.held_back_warning, secrets)
        show_failures(failures, secrets)
    return 1 if failures or any(status.failed for status in statuses) else 0


def _metrics(config: ReplicationConfig, tables: tuple[str, ...]) -> int:
    from xmin_assets.cli.metrics import metrics
    from xmin_assets.replication.status import source_status, table_statuses

    statuses = interruptible(lambda: table_statuses(config, tables=tables))
    click.echo(metrics(statuses, interruptible(lambda: source_status(config))), nl=False)
    # What is wrong is in the metrics; a status of 1 would keep a collector from taking them.
    return 0


def _histories(invocation: Invocation, config: ReplicationConfig, tables: tuple[str, ...]) -> int:
    from xmin_assets.replication.status import table_histories

    secrets = invocation.connection_strings()
    histories = interruptible(lambda: table_histories(config, tables=tables))
    failures = failures_of(histories)
    if invocation.json:
        show_json({"tables": [_history_json(table, secrets) for table in histories]})
    else:
        for table in histories:
            if table.error is None:
                _show_history(table)
        show_failures(failures, secrets)
    return 1 if failures else 0


def _show_history(table: TableHistory) -> None:
    if not table.merges:
        click.echo(f"{table.table}: no merge is remembered")
        return
    click.echo(f"{table.table}:")
    heads = ("merged (UTC)", "extracted", "inserted", "updated", "deleted", "rows", "seconds")
    show_table(heads, [_merge_row(merge) for merge in table.merges])


def _merge_row(merge: PastMerge) -> Row:
    merged = f"{merge.merged_at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}"
    counts = (merge.rows_extracted, merge.rows_inserted, merge.rows_updated, merge.rows_deleted, merge.rows)
    return Row((merged, *counts, sum(merge.seconds.values())), f"{merge.mode}: {merge.reason}")


def _history_json(table: TableHistory, secrets: tuple[str, ...]) -> dict[str, object]:
    from xmin_assets.replication.manifests.serialization import to_dict

    return {
        "table": table.table,
        "target": table.target,
        "history": [to_dict(merge) for merge in table.merges],
        "error": redact(table.error, secrets) if table.error is not None else None,
    }


def _next_full(status: TableStatus) -> str | None:
    if status.state is None:
        return "never synced; the next sync reads everything"
    return f"the next sync reads everything: {status.state.resync}" if status.state.resync else None


def _note(status: TableStatus, secrets: tuple[str, ...]) -> str:
    parts = [_next_full(status) or ""]
    if status.failed:
        parts.insert(0, f"the last sync failed {_ago(status.failed.at)}: {redact(status.failed.error, secrets)}")
    if load := status.load:
        parts.append(
            f"{load.share:.0%} is loaded by chunks ({load.rows:,} rows), the last {_ago_seconds(load.idle_seconds)}"
        )
    state = status.state
    if status.verified:
        found = "equal to the source" if status.verified.matched else "different from the source"
        sample = f", by a sample of {status.verified.sample:.0%}" if status.verified.sample else ""
        parts.append(f"found {found} {_ago(status.verified.at)}{sample}")
    compared = state.deletes_compared_at if state and state.selection.deletes.detects else None
    if state and compared and compared != state.merged_at:
        parts.append(f"deleted rows were last looked for {_ago(compared)}")
    return "; ".join(part for part in parts if part)


def _row(status: TableStatus, source: SourceStatus, secrets: tuple[str, ...]) -> Row:
    state, note = status.state, _note(status, secrets)
    if state is None:
        return Row((status.table, *[None] * 6), note, failed=status.failed is not None)
    cells = (
        status.table,
        _ago(state.merged_at),
        _age(status.as_of or state.merged_at),
        state.rows,
        str(state.watermark),
        str(state.max_xmin),
        source.transactions_above(state),
    )
    return Row(cells, note, failed=status.failed is not None)


def _age(moment: datetime) -> str:
    from xmin_assets.config import duration

    return duration(max(0, int((datetime.now(timezone.utc) - moment).total_seconds())))


def _ago_seconds(seconds: float) -> str:
    from xmin_assets.config import duration

    return f"{duration(int(seconds))} ago"


def _ago(moment: datetime) -> str:
    return f"{_age(moment)} ago"


def _show_source(source: SourceStatus, too_long: float, secrets: tuple[str, ...]) -> None:
    from xmin_assets.replication.planning.held_back import held_back_text, warning

    if source.held_back is None:
        show_note(redact(source.error or "", secrets))
    elif text := warning(source.held_back, too_long):
        show_note(f"warning: {text}")
    elif source.held_back.transactions:
        click.echo(f"watermark {held_back_text(source.held_back)}")


def _source_json(source: SourceStatus, secrets: tuple[str, ...]) -> dict[str, object]:
    from xmin_assets.replication.manifests.serialization import to_dict

    if source.held_back is None:
        return {"held_back": None, "error": redact(source.error or "", secrets)}
    seconds = round(source.held_back.seconds, 1)
    return {"held_back": {**to_dict(source.held_back), "seconds": seconds}, "error": None}


def _json(status: TableStatus, source: SourceStatus, secrets: tuple[str, ...]) -> dict[str, object]:
    state = status.state
    return {
        "table": status.table,
        "target": status.target,
        "last_sync": state.merged_at.isoformat() if state else None,
        "as_of": status.as_of.isoformat() if status.as_of else None,
        "deletes_compared": (state.deletes_compared_at or state.merged_at).isoformat() if state else None,
        "rows": state.rows if state else None,
        "watermark": state.watermark if state else None,
        "max_xmin": state.max_xmin if state else None,
        "transactions_behind": source.transactions_above(state) if state else None,
        "needs_full_sync": _next_full(status),
        "loaded_share": round(status.load.share, 4) if status.load else None,
        "loaded_rows": status.load.rows if status.load else None,
        "failed_at": status.failed.at.isoformat() if status.failed else None,
        "verified_at": status.verified.at.isoformat() if status.verified else None,
        "verified": ("match" if status.verified.matched else "mismatch") if status.verified else None,
        "failure": redact(status.failed.error, secrets) if status.failed else None,
        "error": redact(status.error, secrets) if status.error is not None else None,
    }
