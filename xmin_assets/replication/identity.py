"""Which source the rows of a copy came from, in words, and whether it is still that one. Pure."""

from __future__ import annotations

from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Identity


def replaced(table: str, now: Identity, state: State) -> str | None:
    """Where the copy came from and where it would come from now, if another source has taken the place; else None.

    It may be the same data all the same, after a failover, an upgrade or a dump and restore. A table that was made anew
    under its name, and a view that got another query, are of the same source.

    Args:
        table: the name of the source table that is configured.
        now: the source that answers.
        state: of the last sync.
    """
    before = state.identity
    elsewhere = (now.system_identifier, now.timeline, now.database_oid) != (
        before.system_identifier,
        before.timeline,
        before.database_oid,
    )
    # A table that was renamed along with its configuration is the same one.
    another_table = state.source_table != table and now.relation_oid != before.relation_oid
    if not (elsewhere or another_table):
        return None
    return f"the copy was made from {_said(state.source_table, before)}, and would now be made from {_said(table, now)}"


def _said(table: str, identity: Identity) -> str:
    name = f"{identity.database} (oid {identity.database_oid})" if identity.database else f"oid {identity.database_oid}"
    cluster = f"the cluster with the system identifier {identity.system_identifier}"
    return f"{table} in the database {name} on timeline {identity.timeline} of {cluster}"
