"""The base of all models: unknown keys are errors, and nothing changes after it was read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A section of the configuration."""

    # A value may be a connection string, and pydantic's errors quote what they were given.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
