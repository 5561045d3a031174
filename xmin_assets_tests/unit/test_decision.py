"""The decision for one sync, from facts alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from xmin_assets.config import Mode, TableConfig
from xmin_assets.config.deletes import Deletes
from xmin_assets.errors import ForeignTarget, SchemaChangeRefused, SourceBehind
from xmin_assets.postgres.catalog import Attribute
from xmin_assets.postgres.server import Server
from xmin_assets.postgres.types import Label, UserType
from xmin_assets.replication.manifests.facts import PrimaryKey, SourceFacts, TargetFacts, TargetKeys
from xmin_assets.replication.manifests.operations import AddKey, DropKey
from xmin_assets.replication.manifests.plan import Plan
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Column, Identity, Leaf, Selection, Terms
from xmin_assets.replication.planning.decision import Facts, decide
from xmin_assets.replication.planning.source_identity import rewound

CYCLE = 2**32
STARTED = datetime(2024, 2, 29, 12, tzinfo=timezone.utc)

SERVER = Server(
    version=180000,
    system_identifier="7000",
    database_oid=5,
    database="shop",
    in_recovery=False,
    timeline=3,
    lsn=10_000,
    snapshot="3:3:",
    started="2024-02-29 12:00:00+00 2024-01-01 00:00:00+00",
)
IDENTITY = Identity("7000", 3, 5, 100, (Leaf(100, 100, "public", "orders"),), database="shop")
SELECTION = Selection((Column(1, "id", "integer"), Column(2, "item", "text")), ("id",), None, Deletes.HARD)
SOURCE = SourceFacts(SERVER, IDENTITY, SELECTION, horizon=2_000)
TARGET = TargetFacts(
    oid=900,
    columns=(
        Attribute(1, "id", "integer", not_null=True, virtual=None),
        Attribute(2, "item", "text", not_null=False, virtual=None),
        Attribute(3, "source_xmin", "bigint", not_null=False, virtual=None),
    ),
    has_rows=True,
    keys=TargetKeys((("id",),), PrimaryKey("orders_pkey", ("id",))),
)
STATE = State(
    revision=7,
    sync_id="20240229T120000-00",
    watermark=1_000,
    resync=None,
    max_xmin=990,
    rows=10,
    source_lsn=9_000,
    target_oid=900,
    source_table="public.orders",
    identity=IDENTITY,
    selection=SELECTION,
    merged_at=STARTED,
    source_started=SERVER.started,
)
GONE = TargetFacts(None)
EMPTY = replace(TARGET, has_rows=False)


def plan(source: SourceFacts = SOURCE, target: TargetFacts = TARGET, state: State | None = STATE, **table: Any) -> Plan:
    return decided(TableConfig(source="public.orders", **table), source, target, state)


def decided(table: TableConfig, source: SourceFacts, target: TargetFacts, state: State | None) -> Plan:
    """The plan for a table that is copied as the source has it."""
    made = decide(Facts(table, source, source.selection, target, state))
    return replace(made, blocks_read="")  # no storage is among the facts, of which the map of changed blocks is


def on_server(**facts: Any) -> SourceFacts:
    return replace(SOURCE, server=replace(SERVER, **facts))


def with_identity(**facts: Any) -> SourceFacts:
    return replace(SOURCE, identity=replace(IDENTITY, **facts))


def selecting(**facts: Any) -> SourceFacts:
    return replace(SOURCE, selection=replace(SELECTION, **facts))


def test_rows_since_the_watermark_are_read_where_nothing_else_changed() -> None:
    assert plan() == Plan(Mode.XMIN_INCREMENTAL, "rows changed since transaction 1000", watermark=1_000)


def test_first_sync_makes_the_target() -> None:
    create = 'CREATE TABLE "public"."orders" ("id" integer, "item" text, "source_xmin" bigint, PRIMARY KEY ("id"))'
    assert plan(target=GONE, state=None) == Plan(Mode.FULL_SYNC, "first sync", create_target=True, statements=(create,))


@pytest.mark.parametrize(
    ("target", "state", "adopt", "reason"),
    [
        (EMPTY, None, False, "first sync, into an empty table"),
        (TARGET, None, True, "first sync, into a table that was adopted"),
        (GONE, STATE, False, "the target table is gone"),
        (replace(EMPTY, oid=901), STATE, False, "first sync, into an empty table"),
        (TARGET, replace(STATE, resync="a resync was asked for"), False, "a resync was asked for"),
    ],
)
def test_target_decides_that_everything_is_read(
    target: TargetFacts, state: State | None, adopt: bool, reason: str
) -> None:
    made = plan(target=target, state=state, adopt=adopt)

    assert (made.mode, made.reason, made.watermark) == (Mode.FULL_SYNC, reason, None)
    assert made.create_target == (target is GONE)
    assert made.compare_values == (target is not GONE)


@pytest.mark.parametrize("state", [None, replace(STATE, target_oid=901)], ids=["never merged", "another table's state"])
def test_rows_that_somebody_else_put_there_are_not_touched(state: State | None) -> None:
    with pytest.raises(ForeignTarget, match="was not made by this project"):
        plan(state=state)


ON_TIMELINE = (
    "the source is on timeline {}, not 3: after a failover or a restore, transactions may be missing and their ids "
    "used again"
)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (with_identity(system_identifier="7001"), "another cluster: its system identifier is 7001, not 7000"),
        (with_identity(timeline=4), ON_TIMELINE.format(4)),
        (with_identity(timeline=2), ON_TIMELINE.format(2)),
        (with_identity(database_oid=6), "another database of the cluster: its oid is 6, not 5"),
        (
            with_identity(relation_oid=101),
            "another table: public.orders was dropped and recreated, or another one got its name",
        ),
        (selecting(where="id > 5"), "the where clause was changed"),
        (selecting(deletes=Deletes.IGNORE), "deletes is now ignore"),
    ],
)
def test_another_source_or_selection_is_read_in_full_and_compared(source: SourceFacts, reason: str) -> None:
    made = plan(source)

    assert replace(made, another_source=None) == Plan(Mode.FULL_SYNC, reason, compare_values=True)
    elsewhere = reason.startswith(("another cluster", "the source is on timeline", "another database"))
    assert (made.another_source is not None) == elsewhere


def test_another_key_is_read_in_full_and_takes_the_place_of_ours() -> None:
    assert plan(selecting(key=("id", "item"))) == Plan(
        Mode.FULL_SYNC,
        "the key is now id, item",
        compare_values=True,
        drop_key=DropKey("orders_pkey", nullable=()),
        add_key=AddKey(("id", "item"), is_primary=True),
        statements=(
            'ALTER TABLE "public"."orders" DROP CONSTRAINT "orders_pkey"',
            'ALTER TABLE "public"."orders" ADD PRIMARY KEY ("id", "item")',
        ),
    )


def test_another_source_is_named_with_the_one_before_whatever_else_is_the_reason() -> None:
    source = with_identity(system_identifier="7001", timeline=1, database_oid=6, database="other")

    for state in (STATE, replace(STATE, resync="a resync was asked for")):
        assert plan(source, state=state).another_source == (
            "the copy was made from public.orders in the database shop (oid 5) on timeline 3 of the cluster with the "
            "system identifier 7000, and would now be made from public.orders in the database other (oid 6) on "
            "timeline 1 of the cluster with the system identifier 7001"
        )
    assert plan(source, target=GONE).another_source is None


@pytest.mark.parametrize(
    ("relation_oid", "configured", "another"),
    [
        (100, "public.orders", False),
        (101, "public.orders", False),  # recreated under its name
        (100, "archive.orders", False),  # renamed along with its configuration
        (101, "archive.orders", True),
    ],
)
def test_another_table_for_the_target_is_another_source(relation_oid: int, configured: str, another: bool) -> None:
    made = decided(TableConfig(source=configured), with_identity(relation_oid=relation_oid), TARGET, STATE)

    assert (made.another_source is not None) == another
    assert ("archive.orders, not public.orders" in made.reason) == another


WAL_ENDS = "the source went back in time: its WAL ends before what the last sync saw (restored or crashed)"
LATER = "2024-02-29 12:00:01+00 2024-01-01 00:00:00+00"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (on_server(lsn=9_000), None),
        (on_server(lsn=8_999), WAL_ENDS),
        (replace(SOURCE, horizon=1_000), None),
        (replace(SOURCE, horizon=999), WAL_ENDS),
    ],
)
def test_source_that_went_back_in_time_is_noticed(source: SourceFacts, reason: str | None) -> None:
    assert rewound(source, STATE) == reason
    assert plan(source).reason == (reason or "rows changed since transaction 1000")


@pytest.mark.parametrize("in_recovery", [True, False])
def test_server_that_was_restarted_is_checked_by_a_checksum(in_recovery: bool) -> None:
    planned = plan(on_server(started=LATER, in_recovery=in_recovery))

    assert (planned.mode, planned.checksum) == (Mode.XMIN_INCREMENTAL, True)
    assert not plan(on_server(in_recovery=in_recovery)).checksum


def test_server_that_was_restarted_is_read_in_full_where_deleted_rows_are_kept() -> None:
    selection = replace(SELECTION, deletes=Deletes.IGNORE)
    state = replace(STATE, selection=selection)
    source = replace(on_server(started=LATER), selection=selection)

    assert plan(source, state=state).mode is Mode.FULL_SYNC


def test_standby_behind_the_last_sync_is_waited_for() -> None:
    with pytest.raises(SourceBehind, match="is 1 bytes of WAL behind"):
        plan(on_server(in_recovery=True, lsn=8_999))


@pytest.mark.parametrize("other", [{"system_identifier": "7001"}, {"timeline": 4}])
def test_standby_of_another_history_is_not_waited_for(other: dict[str, Any]) -> None:
    source = replace(on_server(in_recovery=True, lsn=1), identity=replace(IDENTITY, **other))

    assert plan(source).mode is Mode.FULL_SYNC


@pytest.mark.parametrize(("watermark", "mode"), [(5 * CYCLE + 1, Mode.XMIN_INCREMENTAL), (5 * CYCLE, Mode.FULL_SYNC)])
def test_watermark_a_cycle_behind_is_too_old_to_resume_from(watermark: int, mode: Mode) -> None:
    made = plan(replace(SOURCE, horizon=6 * CYCLE), state=replace(STATE, watermark=watermark))

    assert made.mode is mode
    assert ("4294967296 transactions old" in made.reason) == (mode is Mode.FULL_SYNC)


def test_rewritten_table_is_resumed_and_the_reason_says_so() -> None:
    made = plan(with_identity(leaves=(Leaf(100, 200, "public", "orders"),)))

    assert made.mode is Mode.XMIN_INCREMENTAL
    assert made.watermark == 1_000
    assert "rewritten or truncated" in made.reason


def test_rewritten_table_of_a_server_that_repacks_is_read_in_full_and_compared() -> None:
    rewritten = with_identity(leaves=(Leaf(100, 200, "public", "orders"),))
    made = plan(replace(rewritten, server=replace(SERVER, version=190000)))

    assert (made.mode, made.full_leaves, made.compare_values) == (Mode.XMIN_INCREMENTAL, (100,), True)
    assert "which its rows' ids may not survive" in made.reason


def test_new_leaf_is_read_in_full_and_compared_while_known_ones_are_resumed() -> None:
    made = plan(with_identity(leaves=(*IDENTITY.leaves, Leaf(101, 101, "public", "new"))))

    assert (made.mode, made.watermark, made.full_leaves) == (Mode.XMIN_INCREMENTAL, 1_000, (101,))
    assert made.compare_values
    assert made.reason.endswith("; all rows of a partition attached since the last sync")


def test_leaf_that_is_gone_leaves_the_rest_as_it_was() -> None:
    state = replace(STATE, identity=replace(IDENTITY, leaves=(*IDENTITY.leaves, Leaf(101, 101, "public", "gone"))))

    assert plan(state=state) == plan()


@pytest.mark.parametrize(("max_xmin", "compared"), [(CYCLE - 1, False), (CYCLE, True)])
def test_values_are_compared_once_ids_can_have_come_round(max_xmin: int, compared: bool) -> None:
    assert plan(state=replace(STATE, max_xmin=max_xmin)).compare_values == compared


def test_added_column_is_filled_for_all_rows() -> None:
    made = plan(selecting(columns=(*SELECTION.columns, Column(3, "price", "numeric"))))

    assert made.mode is Mode.FULL_SYNC
    assert made.compare_values
    assert "column price added" in made.reason
    assert made.statements == ('ALTER TABLE "public"."orders" ADD COLUMN "price" numeric',)


def test_renamed_column_copies_nothing() -> None:
    made = plan(selecting(columns=(SELECTION.columns[0], Column(2, "article", "text"))))

    assert made.mode is Mode.XMIN_INCREMENTAL
    assert made.statements == ('ALTER TABLE "public"."orders" RENAME COLUMN "item" TO "article"',)


def test_other_expression_of_a_virtual_column_reads_everything() -> None:
    def half(expression: str) -> Selection:
        return replace(SELECTION, columns=(*SELECTION.columns[:1], Column(2, "item", "text", expression)))

    made = plan(replace(SOURCE, selection=half("b")), state=replace(STATE, selection=half("a")))

    assert made.mode is Mode.FULL_SYNC
    assert made.reason == "the expression of the generated column item was changed"


def test_changes_of_columns_can_be_forbidden() -> None:
    with pytest.raises(SchemaChangeRefused, match="schema_changes is 'fail'"):
        plan(selecting(columns=(SELECTION.columns[0], Column(2, "article", "text"))), schema_changes="fail")


def test_mode_full_sync_reads_everything_every_time() -> None:
    made = plan(mode="full_sync")

    assert (made.mode, made.reason) == (Mode.FULL_SYNC, "mode full_sync reads everything every time")


FLAG = Column(7, "kept", "boolean")
MOOD = UserType("public", "mood", "public.mood", "enum", labels=(Label(1, "sad"), Label(2, "happy")))
TERMS = Terms(("public", "pg_temp"), (FLAG,), (MOOD,))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (replace(TERMS, columns=(replace(FLAG, attnum=8),)), "another column has the name kept"),
        (replace(TERMS, columns=(FLAG, Column(8, "item", "text"))), "another column has the name item"),
        (replace(TERMS, columns=(replace(FLAG, name="gone"),)), "the column kept, which the where clause"),
        (replace(TERMS, columns=(replace(FLAG, type="text"),)), "the column kept, which the where clause"),
        (replace(TERMS, columns=(replace(FLAG, collation='pg_catalog."C"'),)), "the column kept, which the where"),
        (replace(TERMS, columns=()), "there is no column kept any more"),
        (replace(TERMS, path=("public", "ext", "pg_temp")), "in other schemas than before"),
        (replace(TERMS, types=(replace(MOOD, labels=MOOD.labels[::-1]),)), "the type public.mood, which"),
        (replace(TERMS, types=(replace(MOOD, labels=MOOD.labels[:1]),)), "the type public.mood, which"),
        (replace(TERMS, types=()), "there is no type public.mood any more"),
    ],
)
def test_whatever_gave_the_where_clause_another_meaning_everything_is_read(now: Terms, told: str) -> None:
    before = replace(STATE, selection=replace(SELECTION, where="kept", terms=TERMS))

    made = plan(selecting(where="kept", terms=now), state=before)

    assert (made.mode, made.compare_values) == (Mode.FULL_SYNC, True)
    assert told in made.reason


def test_a_label_that_an_enum_gets_leaves_the_meaning_of_the_where_clause() -> None:
    before = replace(STATE, selection=replace(SELECTION, where="kept", terms=TERMS))
    grown = replace(MOOD, labels=(Label(1, "sad"), Label(3, "so-so"), Label(2, "happy")))

    made = plan(selecting(where="kept", terms=replace(TERMS, types=(grown,))), state=before)

    assert made.mode is Mode.XMIN_INCREMENTAL
