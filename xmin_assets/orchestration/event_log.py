"""Dagster's event log, written over one connection by a process that runs many steps."""

from __future__ import annotations

from weakref import WeakSet

from dagster import DagsterInstance

STATEMENT_TIMEOUT_MS = 15 * 60 * 1000
"""Milliseconds that a statement of Dagster's own storage may take; it is no limit in practice."""

POOL_RECYCLE_S = 3600
"""Seconds after which a kept connection is made anew."""

_optimized: WeakSet[DagsterInstance] = WeakSet()


def keep_connection(instance: DagsterInstance) -> None:
    """Let this process keep its connection to Dagster's storage.

    dagster-postgres opens a connection for every event, some 30 for a table's step: of an idle sync of a small table
    that is by far the most. The webserver keeps its connections; this is the method by which it does.
    """
    if instance in _optimized:
        return
    _optimized.add(instance)
    instance.optimize_for_webserver(
        statement_timeout=STATEMENT_TIMEOUT_MS, pool_recycle=POOL_RECYCLE_S, max_overflow=20
    )
