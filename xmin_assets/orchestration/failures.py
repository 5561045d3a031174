"""The engine's errors, in the form in which Dagster shows them and decides about retries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import (
    AssetExecutionContext,
    AssetKey,
    Backoff,
    Failure,
    Jitter,
    RetryPolicy,
    RetryRequested,
)

from xmin_assets.errors import (
    PlanOutdated,
    StaleExtract,
    TargetDrifted,
    TransientError,
    XminAssetsError,
)
from xmin_assets.orchestration.failure_metadata import failure_metadata

DEFAULT_RETRY_POLICY = RetryPolicy(max_retries=3, delay=5, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)
"""Three more attempts, after about 5, 15 and 35 seconds: a restart of a server fits in."""

NEEDS_NEW_PLAN = (StaleExtract, PlanOutdated, TargetDrifted)
"""Errors that pass when the table is synced again, but not when the same station is repeated."""

RETRY_FROM_THE_PLAN = {"dagster/retry_strategy": "ALL_STEPS", "dagster/retry_on_asset_or_op_failure": "true"}
"""Tags of a run that failed because its plan was outdated: an instance that retries runs begins it again."""


@contextmanager
def station_errors(
    context: AssetExecutionContext, table: str, op: str, planner: AssetKey | None, policy: RetryPolicy
) -> Iterator[None]:
    """Say an error of the engine as a `Failure`, and have the step retried where that can help.

    Any other exception is a fault of ours and goes on with its traceback.

    The policy is applied here and not given to the asset: Dagster lets an asset's own policy also begin a step
    again that somebody terminates (`op_execution_error_boundary` in dagster/_core/execution/plan/utils.py).

    Args:
        context: of the asset that runs the station.
        table: what people call the table.
        op: what the step is called where its config is said.
        planner: the asset that makes the table's plan; None if the step makes it itself.
        policy: how often and when to try again.
    """
    try:
        yield
    except NEEDS_NEW_PLAN as error:
        if planner is None:
            raise _retried(context, policy) from _failure(error, table, op)
        if context.job_def.has_node_named(planner.to_python_identifier()):
            context.instance.add_run_tags(context.run.run_id, RETRY_FROM_THE_PLAN)
        advice = f"Materialize the four assets of {table} together: they make a new plan."
        # Dagster shows the traceback of a cause, and the message says it all; --debug has the driver's error.
        raise _failure(error, table, op, advice) from None
    except XminAssetsError as error:
        if isinstance(error, TransientError) and error.attempts > 1:
            raise _retried(context, policy) from _failure(error, table, op)
        raise _failure(error, table, op) from None


def _failure(error: XminAssetsError, table: str | None = None, op: str | None = None, advice: str = "") -> Failure:
    return Failure(f"{error} {advice}".rstrip(), metadata=failure_metadata(error, table, op), allow_retries=False)


def _retried(context: AssetExecutionContext, policy: RetryPolicy) -> RetryRequested:
    return RetryRequested(policy.max_retries, policy.calculate_delay(context.retry_number + 1))


@contextmanager
def spool_errors() -> Iterator[None]:
    """Say an error of the spool or the settings as a `Failure`."""
    try:
        yield
    except XminAssetsError as error:
        raise _failure(error) from None
