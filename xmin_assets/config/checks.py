"""What Dagster's asset checks look at, how often, and how serious a failure is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xmin_assets.config.base import Strict
from xmin_assets.config.dagster import Cron, Duration

Severity = Literal["ERROR", "WARN"]


class EqualityCheck(Strict):
    """Whether the target equals the source: `xmin-assets verify` as a check of merged_target."""

    enabled: bool = Field(default=True, description="Whether there is such a check.")
    severity: Severity = Field(default="ERROR", description="`ERROR`, or `WARN` to go on all the same.")
    schedule: Cron | None = Field(
        default=None, description="When all tables are verified, in cron's form: `0 3 * * *` is at three every night."
    )
    every: Duration = Field(
        default=86400,
        description="How long a result that was good stands, such as `1 day`: materializing the table does not compare "
        "it again before. The check's own runs always do.",
    )
    sample: float | None = Field(default=None, gt=0, le=1, description="The share of the rows that is compared.")


class WraparoundCheck(Strict):
    """How far the source's oldest unfrozen transaction is from where PostgreSQL stops to give out ids."""

    enabled: bool = Field(default=True, description="Whether there is such a check.")
    severity: Severity = Field(default="WARN", description="`WARN`, or `ERROR`.")
    transactions: int = Field(
        default=1_000_000_000, ge=1, lt=2**31, description="Age in transactions from which the check fails."
    )


class SourceCheck(Strict):
    """Something about the source that is looked at by every plan."""

    enabled: bool = Field(default=True, description="Whether there is such a check.")
    severity: Severity = Field(default="WARN", description="`WARN`, or `ERROR`.")


class Checks(Strict):
    """The asset checks that can be set; what guards the merge itself cannot be turned off."""

    target_equals_source: EqualityCheck = Field(default=EqualityCheck(), description="Verifies the target.")
    wraparound: WraparoundCheck = Field(
        default=WraparoundCheck(), description="Age of the source's oldest transaction."
    )
    held_back: SourceCheck = Field(
        default=SourceCheck(), description="A transaction left open at the source, from settings.held_back_warning on."
    )
    schema_drift: SourceCheck = Field(
        default=SourceCheck(), description="Columns or types of the source that differ from the target's."
    )
