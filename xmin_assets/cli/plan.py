"""``xmin-assets plan``: what a sync would do, and why. Nothing is copied or changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xmin_assets.cli.console import show_json
from xmin_assets.cli.failures import failures_of, show_failures
from xmin_assets.cli.interrupt import interruptible
from xmin_assets.cli.options import Invocation, common, tables
from xmin_assets.redaction import redact
from xmin_assets.replication.runtime.units import bytes_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xmin_assets.config import ReplicationConfig
    from xmin_assets.replication.manifests.plan import SourceSnapshot
    from xmin_assets.replication.sync import TablePlan


@click.command
@tables
@common
@click.pass_obj
def command(invocation: Invocation, tables: tuple[str, ...]) -> int:
    """Say what the next sync would do.

    For all configured tables, or those named. Nothing is copied or changed.
    """
    from xmin_assets.replication.sync import plan_tables

    config = invocation.load()
    secrets = invocation.connection_strings()
    plans = interruptible(lambda: plan_tables(config, tables=tables))
    failures = failures_of(plans)
    if invocation.json:
        show_json({"tables": [_json(plan, secrets) for plan in plans]})
    else:
        if len(failures) < len(plans):
            click.echo(_summary(config, tables, plans))
        for plan in plans:
            if plan.snapshot is not None:
                _show(plan.snapshot)
        show_failures(failures, secrets)
    return 1 if failures else 0


def _summary(config: ReplicationConfig, tables: tuple[str, ...], plans: Sequence[TablePlan]) -> str:
    from xmin_assets.cli.plan_summary import summary
    from xmin_assets.replication.runtime.sizing import workers_for
    from xmin_assets.replication.status import table_histories

    past = {one.table: one.merges for one in table_histories(config, tables=tables, limit=20)}
    return summary(plans, past, workers_for(config.settings))


def _show(snapshot: SourceSnapshot) -> None:
    from xmin_assets.replication.planning.held_back import held_back_text
    from xmin_assets.replication.planning.load_plan import load_text

    plan = snapshot.plan
    click.echo(click.style(snapshot.table, bold=True) + f"  {plan.mode.value}: {plan.reason}")
    since = "" if plan.watermark is None else f"; watermark {plan.watermark}"
    click.echo(f"  about {snapshot.rows_estimate:,} rows in all, {bytes_text(snapshot.bytes)}{since}")
    if snapshot.load:
        click.echo(f"  {load_text(snapshot.load)}")
    if plan.watermark is not None:
        click.echo(f"  reads {plan.blocks_read}")
    if snapshot.held_back.transactions:
        click.echo(f"  watermark {held_back_text(snapshot.held_back)}")
    if plan.another_source and not plan.create_target:
        share = f"{snapshot.config.max_change_share:.0%}"
        click.echo(f"  careful: {plan.another_source}; it is refused if more than {share} of 1000 rows or more change")
    if plan.triggers:
        click.echo(
            f"  careful: the target's own code fires in the merge and may change what is written: "
            f"{', '.join(plan.triggers)}"
        )
    for statement in plan.statements:
        click.echo(f"  {statement};")
    if plan.dropped_along:
        click.echo(f"  careful: with the columns go, too: {', '.join(plan.dropped_along)}")


def _json(plan: TablePlan, secrets: tuple[str, ...]) -> dict[str, object]:
    if plan.snapshot is None:
        return {"table": plan.table, "error": redact(plan.error or "", secrets)}
    from xmin_assets.replication.manifests.serialization import to_dict

    snapshot = plan.snapshot
    return {
        "table": plan.table,
        "target": str(snapshot.config.target_name),
        **to_dict(snapshot.plan),
        "rows_estimate": snapshot.rows_estimate,
        "bytes": snapshot.bytes,
        "load": to_dict(snapshot.load) if snapshot.load else None,
        "horizon": snapshot.horizon,
        "held_back": {**to_dict(snapshot.held_back), "seconds": round(snapshot.held_back.seconds, 1)},
        "error": None,
    }
