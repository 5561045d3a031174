"""What Dagster loads: the tables of the configuration file, as assets.

The file is the one that ``XMIN_CONFIG`` names, else ``xmin_assets/defs/replication/defs.yaml`` below the
working directory, else the one that lies beside this module. It is read when Dagster asks for the definitions;
nothing connects to a database then.
"""

from __future__ import annotations

import os
from pathlib import Path

from dagster import Definitions, definitions, in_process_executor

from xmin_assets.config import DEFAULT_CONFIG, ReplicationConfig, load_config
from xmin_assets.errors import ConfigError
from xmin_assets.orchestration.definitions_builder import build_definitions


def default_config() -> Path | None:
    """Return the file to read, or None where the variable or the working directory says which."""
    if os.environ.get("XMIN_CONFIG") or DEFAULT_CONFIG.exists():
        return None
    beside = Path(__file__).resolve().parent.parent / DEFAULT_CONFIG
    return beside if beside.exists() else None


_last: list[tuple[ReplicationConfig, Definitions]] = []
"""The configuration of the last call and what it made, if there was one."""


@definitions
def defs() -> Definitions:
    """Build the code location.

    Raises:
        ConfigError: the configuration file is missing or wrong.
    """
    try:
        config = load_config(default_config())
    except ConfigError as error:
        # Dagster prints the traceback below the message; how far the reading got says nothing to anybody.
        raise error.with_traceback(None) from None
    # A command of Dagster's asks some five times, which for hundreds of tables takes as long as syncing them.
    if _last and _last[0][0] == config:
        return _last[0][1]
    made = Definitions.merge(
        build_definitions(config),
        # What "Materialize all" runs with, as the jobs do.
        Definitions(executor=in_process_executor),
    )
    _last[:] = [(config, made)]
    return made
