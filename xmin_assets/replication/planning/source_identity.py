"""Whether the source is the one of the last sync, and has not gone back in time. Pure."""

from __future__ import annotations

from xmin_assets.config import TableConfig
from xmin_assets.errors import SourceBehind
from xmin_assets.postgres import xid
from xmin_assets.postgres.server import STAND_IN
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Identity
from xmin_assets.replication.schema.selection import VIEWS

RESTARTED = "the source server was restarted or has recovered from a crash"
"""A reason why a history is `unproven`, for people."""

UNTOLD = "the source does not tell {facts}, so nothing proves that its history is the one of the last sync"
"""Another one."""


def altered_leaves(before: Identity, source: SourceFacts) -> tuple[int, ...]:
    """Find the partitions, or tables that inherit, in which a column of the table is another one than before.

    While one is detached, columns of it may be dropped and added again, with a default that changes no row, or swap
    their names. Attached again it is the same relation with the same rows, and the table shows other values of them.

    Args:
        before: of the last sync.
        source: now.
    """
    known = {leaf.oid: leaf.attnums for leaf in before.leaves}
    selection = source.selection
    wanted = {column.attnum for column in (*selection.columns, *selection.terms.columns)}

    def is_altered(was: tuple[tuple[int, int], ...], now: tuple[tuple[int, int], ...]) -> bool:
        return any(number in wanted for number, _ in {*was} ^ {*now})

    return tuple(
        leaf.oid for leaf in source.identity.leaves if leaf.oid in known and is_altered(known[leaf.oid], leaf.attnums)
    )


def same_id_other_values(state: State, *, new_leaves: bool, unproven: bool) -> bool:
    """Tell whether a changed row may have other values than the target's of the same key and xid64.

    - A transaction may have written one key both in a partition and in a table attached as one later.
    - Past the first epoch a row of 2^32 transactions ago bears the xid64 of one that may be changing it right now.
    - A source that was restored, or has crashed, gives ids out again that rows of the target bear. That ends when the
      watermark has passed them all: what changes from then on bears higher ones.

    Args:
        state: of the last sync.
        new_leaves: whether there are partitions that it did not know.
        unproven: whether the source's history is, see `unproven`.
    """
    return new_leaves or unproven or state.max_xmin >= xid.CYCLE or state.watermark <= state.reused_below


def another_source(table: TableConfig, source: SourceFacts, state: State) -> str | None:
    """Return how the source is seen not to be the one of the last sync; None if it is."""
    before, now = state.identity, source.identity
    if now.system_identifier != before.system_identifier and now.system_identifier.startswith(STAND_IN):
        return (
            "the source keeps its system identifier to itself and was started at another time, so it may be another "
            "cluster"
        )
    if now.system_identifier != before.system_identifier:
        return f"another cluster: its system identifier is {now.system_identifier}, not {before.system_identifier}"
    if None not in (now.timeline, before.timeline) and now.timeline != before.timeline:
        return (
            f"the source is on timeline {now.timeline}, not {before.timeline}: after a failover or a restore, "
            "transactions may be missing and their ids used again"
        )
    if now.database_oid != before.database_oid:
        return f"another database of the cluster: its oid is {now.database_oid}, not {before.database_oid}"
    if now.relation_oid != before.relation_oid and state.source_table != table.label:
        return f"another table: {table.label}, not {state.source_table}"
    if now.relation_oid != before.relation_oid:
        return f"another table: {table.label} was dropped and recreated, or another one got its name"
    if (now.kind in VIEWS, now.definition) != (before.kind in VIEWS, before.definition):
        return "the view's query was changed"
    return None


def rewound(source: SourceFacts, state: State) -> str | None:
    """Return how the source, of the same identity, is seen to lack what the last sync saw; None if it is not."""
    server = source.server
    went_back = server.lsn is not None and state.source_lsn is not None and server.lsn < state.source_lsn
    if went_back or source.horizon < state.watermark:
        return "the source went back in time: its WAL ends before what the last sync saw (restored or crashed)"
    return None


def unproven(source: SourceFacts, state: State) -> str | None:
    """Say why nothing proves that the source's history goes on where the last sync saw it; None if something does.

    A copy of the data directory from before that sync, a storage snapshot say, has the same identity and timeline, and
    once it has done enough of its own, later WAL and ids. Its start gives it away. Likewise a server that has
    recovered from a crash may have lost what was visible and not yet on disk. After another start only its WAL can
    prove what went before (`wal_proof`). A server that keeps its start, timeline or WAL position to itself proves
    nothing, nor does one that did so when the last sync saw it.
    """
    server, before = source.server, state.identity
    told = {
        "when it was started": (server.started, state.source_started),
        "its timeline": (source.identity.timeline, before.timeline),
        "where its WAL ends": (server.lsn, state.source_lsn),
    }
    if missing := [what for what, values in told.items() if None in values]:
        return UNTOLD.format(facts=" or ".join(missing))
    if server.started in (state.source_started, source.proven_start):
        return None
    return f"{RESTARTED} ({source.unproven_wal})" if source.unproven_wal else RESTARTED


def require_caught_up(table: TableConfig, source: SourceFacts, state: State | None) -> None:
    """Refuse a standby that has not replayed what the last sync saw.

    Raises:
        SourceBehind: it has not.
    """
    if state is None or not source.server.in_recovery:
        return
    if state.source_lsn is None or source.server.lsn is None:
        return
    same = (state.identity.system_identifier, state.identity.timeline) == (
        source.identity.system_identifier,
        source.identity.timeline,
    )
    if same and source.server.lsn < state.source_lsn:
        raise SourceBehind(
            f"{table.label}: the standby is {state.source_lsn - source.server.lsn} bytes of WAL behind what the last "
            "sync has copied. Run the sync again when it has replayed them."
        )


def replaced(table: str, now: Identity, state: State) -> str | None:
    """Say where the copy came from and would come from now; None if no other source has taken the place.

    It may be the same data all the same, after a failover, an upgrade or a dump and restore. A table that was recreated
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
    timeline = "an unknown timeline" if identity.timeline is None else f"timeline {identity.timeline}"
    return f"{table} in the database {name} on {timeline} of {cluster}"
