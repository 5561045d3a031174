"""The connection strings of source and target: from the environment, else from the configuration."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import SecretStr

from xmin_assets.config.templates import render
from xmin_assets.errors import ConfigError


def connection_url(
    side: Literal["source", "target"], configured: SecretStr | None = None, *, configured_first: bool = False
) -> str:
    """Return the connection string of a side: the environment's, else the configured one.

    Args:
        side: which database.
        configured: what the configuration says.
        configured_first: whether that goes before the environment's.

    Raises:
        ConfigError: there is none.
    """
    variable = f"XMIN_{side.upper()}_URL"
    value = os.environ.get(variable) or ""
    if configured and (configured_first or not value):
        value = str(render(configured.get_secret_value(), f"{side}: in the configuration"))
    if not value.strip():
        raise ConfigError(
            f"No {side} database is configured. Set {variable} to a libpq URL such as "
            f"postgresql://user@host:5432/dbname, or {side}: in the configuration file."
        )
    return value
