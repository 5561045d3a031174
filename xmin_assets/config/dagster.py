"""What Dagster does with the tables by itself, and in what steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from xmin_assets.config.base import Strict
from xmin_assets.config.durations import seconds
from xmin_assets.redaction import shown


def _duration(value: object) -> object:
    return seconds(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value


def _cron(value: object) -> object:
    if not isinstance(value, str):
        return value
    from croniter import croniter  # what Dagster judges by; here, because only a schedule needs it

    if not (len(value.split()) == 5 or value.startswith("@")) or not croniter.is_valid(value):
        raise ValueError(f"is no schedule: {shown(value)}; write five fields as cron does, such as 0 3 * * *")
    return value


Duration = Annotated[float, BeforeValidator(_duration, json_schema_input_type=float | str)]
"""Seconds, or a text such as ``10 minutes``."""

Cron = Annotated[str, BeforeValidator(_cron)]
"""Five fields as cron has them, or a name such as ``@hourly``."""

Steps = Literal["stages", "table"]


class Sensor(Strict):
    """Looks for changes at the source and requests a sync of the tables that have some."""

    every: Duration = Field(default=60, ge=5, description="How often it looks, such as `30 s` or `5 minutes`.")
    running: bool = Field(default=True, description="Whether it runs from the start, or waits to be turned on.")


class Freshness(Strict):
    """How old a target may become."""

    fail_after: Duration = Field(ge=60, description="Age at which a target is out of date, such as `2 hours`.")
    warn_after: Duration | None = Field(default=None, ge=60, description="Age at which it is worth a warning.")

    @model_validator(mode="after")
    def _ordered(self) -> Freshness:
        if self.warn_after is not None and self.warn_after >= self.fail_after:
            raise ValueError("warn_after must be shorter than fail_after")
        return self


class Translation(Strict):
    """What a table's assets are called and look like in Dagster. Texts may have Dagster's templates in them."""

    key: str | None = Field(
        default=None, description="The merged target's key, as `warehouse/orders`; the other three are made from it."
    )
    key_prefix: str | tuple[str, ...] | None = Field(default=None, description="What the keys begin with.")
    group_name: str | None = Field(default=None, description="The group of the table's assets.")
    owners: tuple[str, ...] | None = Field(default=None, description="Addresses, or teams as `team:data`.")
    tags: dict[str, str | int | float | bool] | None = Field(default=None, description="Tags, beside the station's.")
    kinds: tuple[str, ...] | None = Field(default=None, description="Kinds, instead of those that are shown.")
    description: str | None = Field(default=None, description="Of the merged target.")
    automation_condition: str | None = Field(
        default=None, description="Such as `{{ dg.AutomationCondition.eager() }}`, for all four assets."
    )
    metadata: dict[str, Any] | None = Field(default=None, description="Metadata, beside what is there.")
    deps: tuple[str, ...] | None = Field(
        default=None, description="Keys of assets that a sync comes after, beside the source's table."
    )
