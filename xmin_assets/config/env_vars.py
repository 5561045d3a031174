"""``{{ env.NAME }}`` in a configuration file stands for a variable of the environment."""

from __future__ import annotations

import os
import re

from xmin_assets.errors import ConfigError

_ENV = re.compile(r"\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def expand(text: str, origin: str) -> str:
    """Fill in the variables of a text.

    Args:
        text: any text.
        origin: where it stands, for the error.

    Raises:
        ConfigError: a variable is not set.
    """

    def variable(match: re.Match[str]) -> str:
        try:
            return os.environ[match.group(1)]
        except KeyError as error:
            raise ConfigError(f"{origin} uses the variable {match.group(1)}, which is not set.") from error

    return _ENV.sub(variable, text)
