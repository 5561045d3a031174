"""Projects that people could have, in an environment that has what they use: ``make projects``."""

from __future__ import annotations

from importlib.util import find_spec

# Without dbt nothing is collected, with which pytest ends badly if these are the only tests.
collect_ignore = [] if find_spec("dagster_dbt") and find_spec("dbt") else ["test_warehouse.py"]
