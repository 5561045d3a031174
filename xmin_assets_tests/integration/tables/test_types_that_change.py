"""Enums and composites whose labels and attributes change their names: what is stored goes on meaning what it meant.

`moods` and `feelings` have one type; the suites differ in which of them is synced when. Labels that get each other's
names change no row's xmin, so a wrong one would stay wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.errors import PlanOutdated, TransientError
from xmin_assets.postgres.connection import Database as Endpoint
from xmin_assets.replication.manifests.merge import MadeTypes
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.schema.type_making import ensure_types
from xmin_assets.replication.staging import stage
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica

MOODS = """
CREATE TYPE mood AS ENUM ('a', 'b', 'c');
CREATE TABLE moods (id int PRIMARY KEY, mood mood);
CREATE TABLE feelings (id int PRIMARY KEY, mood mood);
INSERT INTO moods VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO feelings VALUES (1, 'a'), (2, 'b'), (3, 'c');
"""

RENAMES = {
    "a chain": ["b TO c2", "a TO b"],
    "a swap": ["a TO tmp", "b TO a", "tmp TO b"],
    "a circle": ["a TO tmp", "b TO a", "c TO b", "tmp TO c"],
    "a chain and a circle": ["a TO tmp", "b TO a", "c TO other", "tmp TO b"],
}


SWAP = RENAMES["a swap"]


def once_made(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen once, right after a sync has made sure of its types, and before it loads anything."""
    waiting = [happens]

    def ensure(target: Endpoint, snapshot: SourceSnapshot) -> MadeTypes:
        made = ensure_types(target, snapshot)
        if waiting:
            waiting.pop()()
        return made

    monkeypatch.setattr(stage, "ensure_types", ensure)


def rename(database: Database, *renames: str, of: str = "mood") -> None:
    for words in renames:
        name, to = words.split(" TO ")
        database.execute(f"ALTER TYPE {of} RENAME VALUE '{name}' TO '{to}'")


def moods(database: Database, table: str = "moods") -> list[str | None]:
    """The moods of a table, in the order of its ids."""
    return [mood for (mood,) in database.fetch(f"SELECT mood::text FROM {table} ORDER BY id")]


@pytest.fixture
def pair(replica: Replica) -> Replica:
    replica.source.execute(MOODS)
    return replica


@pytest.fixture
def synced(pair: Replica) -> Replica:
    pair.sync("public.moods")
    pair.sync("public.feelings")
    return pair


@pytest.fixture
def other(replica: Replica, source_server: Cluster) -> Iterator[Replica]:
    """Another source database with a type and a table of the same names, copied to `others` in the same target."""
    database = Database.create(source_server)
    database.execute(MOODS)
    yield replace(replica, source=database)
    database.drop()


OTHERS = {"source": "public.moods", "target": "public.others"}


@pytest.mark.parametrize("renames", RENAMES.values(), ids=RENAMES)
def test_labels_that_get_each_others_names_are_renamed_in_order(synced: Replica, renames: list[str]) -> None:
    rename(synced.source, *renames)

    assert synced.sync("public.moods").rows_extracted == 0
    assert synced.sync("public.feelings").rows_extracted == 0
    synced.assert_equal("public.moods")
    synced.assert_equal("public.feelings")


def test_the_renames_of_a_plan_can_be_run_as_they_are_shown(synced: Replica) -> None:
    rename(synced.source, *SWAP)

    planned = synced.plan("public.moods").snapshot
    assert planned is not None
    for statement in planned.plan.statements:
        synced.target.execute(statement)

    assert len(planned.plan.statements) == 3
    assert moods(synced.target) == ["b", "a", "c"]
    assert synced.sync("public.moods").rows_extracted == 0


def test_a_new_label_may_get_the_name_that_another_one_had(synced: Replica) -> None:
    rename(synced.source, "a TO x")
    synced.source.execute("ALTER TYPE mood ADD VALUE 'a' BEFORE 'b'")
    synced.source.execute("INSERT INTO moods VALUES (4, 'a')")

    assert synced.sync("public.moods").rows_inserted == 1
    synced.sync("public.feelings")

    assert moods(synced.target) == ["x", "b", "c", "a"]
    assert moods(synced.target, "feelings") == ["x", "b", "c"]


def test_tables_of_one_type_may_be_synced_at_different_times(synced: Replica) -> None:
    rename(synced.source, "a TO x", "b TO a")
    synced.sync("public.moods")
    rename(synced.source, "a TO b", "x TO a", "c TO x")
    synced.source.execute("INSERT INTO feelings VALUES (4, 'x')")

    synced.sync("public.feelings")
    synced.sync("public.moods")

    assert moods(synced.target) == ["a", "b", "x"]
    assert moods(synced.target, "feelings") == ["a", "b", "x", "x"]


def test_names_that_come_back_between_two_syncs_change_nothing(synced: Replica) -> None:
    rename(synced.source, *SWAP)
    synced.sync("public.moods")
    rename(synced.source, *SWAP)

    assert synced.sync("public.feelings").rows_extracted == 0
    assert synced.sync("public.moods").rows_extracted == 0
    assert moods(synced.target) == moods(synced.target, "feelings") == ["a", "b", "c"]


@pytest.mark.parametrize("deletes", ["hard", "soft", "ignore"])
def test_a_rename_stands_where_its_merge_is_refused(pair: Replica, deletes: str) -> None:
    table: dict[str, Any] = {"source": "public.moods", "deletes": deletes, "max_delete_share": 0.1}
    pair.source.execute("INSERT INTO moods SELECT i, 'b' FROM generate_series(4, 1000) i")
    pair.sync(table)
    rename(pair.source, "a TO x")
    pair.source.execute("DELETE FROM moods WHERE id > 3")
    result = pair.try_sync(table)
    assert (result.status == "failed") is (deletes != "ignore")

    rename(pair.source, "b TO a", "x TO b")
    pair.sync(table, allow_mass_delete=True)

    live = "SELECT mood::text FROM moods WHERE id < 4 ORDER BY id"
    assert pair.target.fetch(live) == [("b",), ("a",), ("c",)]
    if deletes != "hard":
        assert pair.target.fetch("SELECT DISTINCT mood::text FROM moods WHERE id > 3") == [("a",)]


def test_a_rename_that_was_applied_by_a_sync_that_never_merged_is_no_news(synced: Replica) -> None:
    rename(synced.source, "a TO b2", "b TO a")
    synced.source.execute("UPDATE moods SET mood = 'c' WHERE id = 1; INSERT INTO feelings VALUES (4, 'a')")
    with synced.stations("public.moods") as stations:
        stations.up_to_stage()

    synced.sync("public.feelings")
    synced.sync("public.moods")

    assert moods(synced.target) == ["c", "a", "c"]
    assert moods(synced.target, "feelings") == ["b2", "a", "c", "a"]


def test_a_sync_that_was_planned_before_another_renamed_labels_does_not_rename_them_back(synced: Replica) -> None:
    synced.source.execute("INSERT INTO moods VALUES (4, 'a')")
    with synced.stations("public.moods") as stations:
        extracted = stations.up_to_extract()
        rename(synced.source, *SWAP)
        synced.sync("public.feelings")
        with pytest.raises(PlanOutdated, match="a type of its columns was changed"):
            stations.stage(extracted)

    assert moods(synced.target, "feelings") == ["b", "a", "c"]
    synced.sync("public.moods")
    assert moods(synced.target) == ["b", "a", "c", "b"]


def test_rows_that_were_loaded_under_other_names_are_not_merged(
    synced: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.source.execute("INSERT INTO moods VALUES (4, 'a')")
    once_made(monkeypatch, lambda: (rename(synced.source, *SWAP), synced.sync("public.feelings")))
    with synced.stations("public.moods") as stations:
        staged = stations.up_to_stage()  # what was read as `a` is now loaded as the other label
        rename(synced.source, *SWAP)
        synced.sync("public.feelings")
        with pytest.raises(PlanOutdated, match="a type of its columns was changed"):
            stations.merge(staged)

    synced.sync("public.moods")
    assert moods(synced.target) == ["a", "b", "c", "a"]


def test_keys_that_were_loaded_under_other_names_delete_nothing(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.source.execute(
        "CREATE TYPE kind AS ENUM ('a', 'b'); CREATE TABLE t (kind kind, n int, PRIMARY KEY (kind, n));"
        "CREATE TABLE u (kind kind PRIMARY KEY); INSERT INTO u VALUES ('a');"
        "INSERT INTO t SELECT 'a', i FROM generate_series(1, 20) i; INSERT INTO t VALUES ('b', 0)"
    )
    replica.sync("public.t")
    replica.sync("public.u")
    replica.source.execute("DELETE FROM t WHERE n = 7")
    once_made(monkeypatch, lambda: (rename(replica.source, *SWAP, of="kind"), replica.sync("public.u")))
    with replica.stations({"source": "public.t", "max_delete_share": 1}) as stations:
        extracted = stations.up_to_extract()
        assert (extracted.rows, extracted.key_parts is not None) == (0, True)
        with pytest.raises(PlanOutdated):
            stations.merge(stations.stage(extracted))

    replica.sync("public.t")
    replica.assert_equal("public.t")


def test_labels_that_are_renamed_while_rows_are_read_are_noticed(synced: Replica) -> None:
    synced.source.execute("UPDATE moods SET mood = 'a'")

    def swap_once(progress: Any) -> None:
        # Said after the snapshot is taken: the rows then print by the new names, and by the old ones again later.
        if progress.note == "looking for changes" and not done:
            done.append(True)
            rename(synced.source, *SWAP)

    done: list[bool] = []
    with synced.stations("public.moods") as stations:
        planned = stations.snapshot()
        with pytest.raises(PlanOutdated, match=r"type public\.mood was changed while it was read"):
            stations.extract(planned, swap_once)
    assert done

    synced.sync("public.moods")
    assert moods(synced.target) == ["b", "b", "b"]


def test_a_label_renamed_by_hand_in_the_target_is_renamed_back(synced: Replica) -> None:
    rename(synced.target, "a TO mine")

    assert synced.sync("public.moods").rows_extracted == 0
    assert moods(synced.target) == moods(synced.target, "feelings") == ["a", "b", "c"]


def test_names_swapped_by_hand_in_the_target_are_swapped_back(synced: Replica) -> None:
    rename(synced.target, *SWAP)
    synced.source.execute("INSERT INTO moods VALUES (4, 'a')")

    assert synced.sync("public.moods").rows_inserted == 1
    assert moods(synced.target) == ["a", "b", "c", "a"]
    assert moods(synced.target, "feelings") == ["a", "b", "c"]


def test_a_name_that_somebody_gave_to_a_label_of_the_target_is_not_taken_from_it(synced: Replica) -> None:
    synced.target.execute("ALTER TYPE mood ADD VALUE 'x'")
    synced.target.execute("CREATE TABLE mine AS SELECT 'x'::mood AS mood")
    rename(synced.source, "a TO x")

    result = synced.sync("public.moods")

    assert (result.mode, result.rows_updated) == ("full_sync", 1)
    assert "values of the type public.mood" in (result.reason or "")
    assert synced.sync("public.feelings").rows_updated == 1
    assert moods(synced.target) == moods(synced.target, "feelings") == ["x", "b", "c"]
    assert synced.sync("public.moods").mode == "xmin_incremental"


def test_a_type_of_the_targets_owner_goes_by_its_labels_names(pair: Replica) -> None:
    pair.target.execute("CREATE TYPE mood AS ENUM ('c', 'z', 'a')")
    pair.sync("public.moods")
    rename(pair.source, "a TO z2", "b TO a")

    assert pair.sync("public.moods").rows_extracted == 0
    assert moods(pair.target) == ["z2", "a", "c"]


def test_a_type_recreated_at_the_source_is_another_one(synced: Replica) -> None:
    synced.source.execute(
        "ALTER TABLE moods ALTER mood TYPE text; ALTER TABLE feelings ALTER mood TYPE text; DROP TYPE mood;"
        "CREATE TYPE mood AS ENUM ('b', 'a', 'c'); ALTER TABLE moods ALTER mood TYPE mood USING mood::mood;"
        "ALTER TABLE feelings ALTER mood TYPE mood USING mood::mood"
    )
    synced.sync("public.moods")
    rename(synced.source, *SWAP)
    synced.sync("public.moods")
    synced.sync("public.feelings")

    assert moods(synced.target) == moods(synced.target, "feelings") == ["b", "a", "c"]


def test_renames_are_changes_that_are_refused_where_none_is_to_be_applied(synced: Replica) -> None:
    rename(synced.source, "a TO x")

    error = synced.try_sync({"source": "public.moods", "schema_changes": "fail"}).error or ""

    assert "RENAME VALUE 'a' TO 'x'" in error
    assert "schema_changes is 'fail'" in error
    assert moods(synced.target) == ["a", "b", "c"]


@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_a_type_that_another_source_has_too_is_not_renamed_under_it(
    synced: Replica, other: Replica, deletes: str
) -> None:
    others = {**OTHERS, "deletes": deletes}
    other.sync(others)
    rename(other.source, "a TO x", "b TO a")
    other.source.execute("DELETE FROM moods WHERE id = 3")

    result = other.sync(others)

    assert (result.mode, result.rows_updated) == ("full_sync", 2)
    assert synced.sync("public.moods").rows_extracted == 0
    live = "SELECT mood::text FROM others WHERE id < 3 ORDER BY id"
    assert other.target.fetch(live) == [("x",), ("a",)]
    assert moods(synced.target) == moods(synced.target, "feelings") == ["a", "b", "c"]


def test_two_sources_of_one_type_take_turns_with_renames(synced: Replica, other: Replica) -> None:
    """Each of them renames as it likes, and after every sync both copies print what their sources do."""
    other.sync(OTHERS)
    for ours, theirs in (
        (["a TO tmp", "b TO a", "tmp TO b"], []),
        ([], ["c TO d"]),
        (["c TO d"], ["a TO x", "d TO a"]),
        (["b TO x", "a TO y"], ["x TO y", "b TO x"]),
    ):
        rename(synced.source, *ours)
        rename(other.source, *theirs)
        synced.source.execute("UPDATE moods SET mood = mood WHERE id = 2")
        synced.sync("public.moods")
        other.sync(OTHERS)
        assert moods(synced.target) == moods(synced.source)
        assert moods(synced.target, "others") == moods(other.source)
        synced.sync("public.feelings")
        assert moods(synced.target, "feelings") == moods(synced.source, "feelings")
        assert moods(synced.target, "others") == moods(other.source)


def test_a_promoted_copy_of_a_source_is_another_source(synced: Replica) -> None:
    """As if `feelings` were copied from a clone of the cluster that has gone its own way since."""
    synced.target.execute(
        "UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{identity,timeline}', '7')"
        " WHERE target_table = 'feelings'"
    )
    rename(synced.source, "a TO x")

    assert synced.sync("public.moods").rows_updated == 1
    assert moods(synced.target) == ["x", "b", "c"]
    assert moods(synced.target, "feelings") == ["a", "b", "c"]


def test_rows_of_another_timeline_keep_their_labels_until_the_merge_replaces_them(synced: Replica) -> None:
    """As if the source were a promoted copy of the one that the only table of the type was copied from."""
    synced.target.execute(
        "DROP TABLE feelings; UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{identity,timeline}', '7')"
    )
    rename(synced.source, "a TO x")

    with synced.stations("public.moods") as stations:
        staged = stations.up_to_stage()
        assert moods(synced.target) == ["a", "b", "c"]
        stations.merge(staged)

    assert moods(synced.target) == ["x", "b", "c"]
    rename(synced.source, "x TO y", "b TO x")
    assert synced.sync("public.moods").rows_extracted == 0
    assert moods(synced.target) == ["y", "x", "c"]


def test_a_source_that_is_gone_holds_no_type_fast(pair: Replica, other: Replica) -> None:
    """Its one table is now copied from the other source."""
    other.sync({"source": "public.moods"})
    pair.sync({"source": "public.moods"})
    rename(pair.source, "a TO x")

    assert pair.sync({"source": "public.moods"}).rows_extracted == 0
    assert pair.target.fetch("SELECT 'x'::mood::text, cardinality(enum_range(NULL::mood))") == [("x", 3)]


def test_a_source_that_begins_to_use_a_type_is_not_overrun(synced: Replica, other: Replica) -> None:
    """Planned before the other one has merged: what was planned as a rename is then none."""
    rename(synced.source, "a TO x")
    with synced.stations("public.moods") as stations:
        extracted = stations.up_to_extract()
        other.sync(OTHERS)
        with pytest.raises(PlanOutdated):
            stations.stage(extracted)

    synced.sync("public.moods")
    synced.sync("public.feelings")
    assert moods(synced.target) == moods(synced.target, "feelings") == ["x", "b", "c"]
    assert moods(synced.target, "others") == ["a", "b", "c"]


def test_a_type_is_changed_only_when_the_merges_that_rely_on_it_are_over(synced: Replica) -> None:
    synced.source.execute("INSERT INTO moods VALUES (4, 'a')")
    with synced.stations("public.moods") as stations:
        staged = stations.up_to_stage()
        holder = synced.target.connect()
        holder.autocommit = False
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM xmin_assets.types FOR UPDATE")
            with synced.stations("public.moods", lock_timeout=0.1) as hasty, pytest.raises(TransientError):
                hasty.merge(staged)
        holder.rollback()
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM xmin_assets.types FOR SHARE")  # as a merge does
            rename(synced.source, "a TO x")
            with synced.stations("public.feelings", lock_timeout=0.1) as hasty:
                extracted = hasty.up_to_extract()
                with pytest.raises(TransientError):
                    hasty.stage(extracted)
        holder.rollback()

    assert moods(synced.target, "feelings") == ["a", "b", "c"]


NESTED = """
CREATE TYPE mood AS ENUM ('a', 'b');
CREATE DOMAIN good_mood AS mood;
CREATE TYPE span AS RANGE (SUBTYPE = mood);
CREATE TYPE state AS (mood mood, moods mood[]);
CREATE TABLE t (id int PRIMARY KEY, moods mood[], good good_mood, state state, states state[], span span);
CREATE TABLE u (id int PRIMARY KEY, mood mood);
INSERT INTO t VALUES (1, '{a,b,NULL}', 'a', ROW('b', '{a}'), ARRAY[ROW('a', NULL)::state], '[a,b]');
INSERT INTO u VALUES (1, 'a');
"""


@pytest.mark.parametrize("shared", [False, True])
def test_labels_within_other_types_are_followed(replica: Replica, source_server: Cluster, shared: bool) -> None:
    replica.source.execute(NESTED)
    replica.sync("public.t")
    replica.sync("public.u")
    if shared:
        database = Database.create(source_server)
        database.execute(NESTED)
        replace(replica, source=database).sync({"source": "public.u", "target": "public.others"})
        database.drop()
    rename(replica.source, "a TO x")
    replica.source.execute("ALTER TYPE mood ADD VALUE 'a'")
    replica.sync("public.u")

    assert replica.sync("public.t").mode == ("full_sync" if shared else "xmin_incremental")
    replica.assert_equal("public.t")
    replica.assert_equal("public.u")
    if shared:
        assert replica.target.fetch("SELECT mood::text FROM others") == [("a",)]


ADDRESSES = """
CREATE TYPE address AS (street text, town text, zip text);
CREATE TABLE t (id int PRIMARY KEY, home address);
CREATE TABLE u (id int PRIMARY KEY, homes address[]);
INSERT INTO t VALUES (1, ROW('s', 't', 'z')), (2, ROW('S', NULL, 'Z'));
INSERT INTO u VALUES (1, ARRAY[ROW('s', 't', 'z')::address]);
"""


@pytest.fixture
def homes(replica: Replica) -> Replica:
    replica.source.execute(ADDRESSES)
    replica.sync("public.t")
    replica.sync("public.u")
    return replica


ALTERATIONS = {
    "dropped and made anew": [["DROP ATTRIBUTE town", "ADD ATTRIBUTE town text"]],
    "swapped": [["RENAME ATTRIBUTE street TO tmp", "RENAME ATTRIBUTE town TO street", "RENAME ATTRIBUTE tmp TO town"]],
    "a chain": [["RENAME ATTRIBUTE zip TO code", "RENAME ATTRIBUTE town TO zip", "RENAME ATTRIBUTE street TO town"]],
    "the name of a dropped one": [
        ["DROP ATTRIBUTE street", "RENAME ATTRIBUTE zip TO street", "ADD ATTRIBUTE zip text"]
    ],
    "twice": [
        ["DROP ATTRIBUTE zip", "ADD ATTRIBUTE zip text"],
        ["RENAME ATTRIBUTE town TO zip2", "DROP ATTRIBUTE zip"],
    ],
}


@pytest.mark.parametrize("rounds", ALTERATIONS.values(), ids=ALTERATIONS)
def test_attributes_are_followed_by_their_numbers(homes: Replica, rounds: list[list[str]]) -> None:
    for alterations in rounds:
        for alteration in alterations:
            homes.source.execute(f"ALTER TYPE address {alteration}")
        homes.sync("public.t")
    homes.source.execute("INSERT INTO t SELECT 3, home FROM t WHERE id = 1")

    homes.sync("public.t")
    homes.sync("public.u")

    homes.assert_equal("public.t")
    homes.assert_equal("public.u")
    names = "SELECT attname FROM pg_attribute WHERE attrelid = 'address'::regclass AND NOT attisdropped ORDER BY attnum"
    assert homes.target.fetch(names) == homes.source.fetch(names)


def test_an_attribute_that_lost_its_values_in_the_target_gets_them_again(homes: Replica) -> None:
    homes.target.execute("ALTER TYPE address DROP ATTRIBUTE zip; ALTER TYPE address ADD ATTRIBUTE zip text")

    assert homes.sync("public.t").rows_updated == 2
    homes.sync("public.u")
    homes.assert_equal("public.t")
    homes.assert_equal("public.u")


def test_a_composite_that_another_source_has_too_is_not_changed_under_it(
    homes: Replica, source_server: Cluster
) -> None:
    database = Database.create(source_server)
    database.execute(ADDRESSES)
    other, others = replace(homes, source=database), {"source": "public.t", "target": "public.others"}
    other.sync(others)
    homes.source.execute("ALTER TYPE address DROP ATTRIBUTE zip")

    error = homes.try_sync("public.t").error or ""

    assert "rows of another source have it" in error
    assert "it is not changed under them" in error
    assert 'run ALTER TYPE "public"."address" DROP ATTRIBUTE "zip" in the target' in error
    assert "type_overrides" in error
    assert homes.plan("public.t").error == error
    other.sync(others)
    other.assert_equal("public.t", "public.others")
    # Both sources and the target are brought together by hand.
    homes.target.execute("ALTER TYPE address DROP ATTRIBUTE zip")
    database.execute("ALTER TYPE address DROP ATTRIBUTE zip")
    homes.sync("public.t")
    other.sync(others)
    homes.assert_equal("public.t")
    other.assert_equal("public.t", "public.others")
    database.drop()


def test_a_table_that_gets_another_source_keeps_its_composite_until_somebody_alters_it(
    homes: Replica, source_server: Cluster
) -> None:
    """A longer list of attributes would keep the first source out for good, if the second one was a mistake."""
    homes.target.execute("DROP TABLE u; DELETE FROM xmin_assets.state WHERE target_table = 'u'")
    database = Database.create(source_server)
    database.execute(ADDRESSES)
    database.execute("ALTER TYPE address ADD ATTRIBUTE country text; UPDATE t SET home.country = 'c' WHERE id = 1")
    other = replace(homes, source=database)

    error = other.try_sync("public.t").error or ""

    assert 'run ALTER TYPE "public"."address" ADD ATTRIBUTE "country" text in the target' in error
    assert homes.sync("public.t").rows_extracted == 0
    homes.assert_equal("public.t")
    homes.target.execute("ALTER TYPE public.address ADD ATTRIBUTE country text")
    other.sync("public.t")
    other.assert_equal("public.t")
    database.drop()


def test_a_table_that_is_gone_holds_no_type_fast(homes: Replica, source_server: Cluster) -> None:
    homes.target.execute("DROP TABLE t, u")
    database = Database.create(source_server)
    database.execute(ADDRESSES)
    database.execute("ALTER TYPE address ADD ATTRIBUTE country text")
    other = replace(homes, source=database)

    other.sync("public.t")

    other.assert_equal("public.t")
    database.drop()


@pytest.mark.parametrize("dropped_columns", ["keep", "drop"])
def test_a_column_that_is_only_kept_holds_its_composite_fast(
    homes: Replica, source_server: Cluster, dropped_columns: str
) -> None:
    homes.target.execute("DROP TABLE u")
    database = Database.create(source_server)
    database.execute(ADDRESSES)
    other, others = replace(homes, source=database), {"source": "public.t", "target": "public.others"}
    other.sync(others)
    homes.source.execute("ALTER TABLE t DROP COLUMN home; INSERT INTO t VALUES (3)")
    homes.sync({"source": "public.t", "dropped_columns": dropped_columns})
    homes.source.execute("INSERT INTO t VALUES (4)")
    homes.sync({"source": "public.t", "dropped_columns": dropped_columns})
    database.execute("ALTER TYPE address DROP ATTRIBUTE zip")

    result = other.try_sync(others)

    if dropped_columns == "keep":
        assert "rows of another source have it" in (result.error or "")
        assert homes.target.fetch("SELECT home::text FROM t WHERE id < 3 ORDER BY id") == [("(s,t,z)",), ("(S,,Z)",)]
    else:
        assert result.error is None
        other.assert_equal("public.t", "public.others")
    database.drop()


def test_an_attribute_that_the_source_has_dropped_goes_before_a_merge_that_is_refused(homes: Replica) -> None:
    """No row of the source has its values any more, so the next sync could not keep them either."""
    homes.source.execute("INSERT INTO t SELECT i, ROW('s', 't', 'z')::address FROM generate_series(3, 2000) i")
    homes.sync("public.t")
    homes.source.execute("ALTER TYPE address DROP ATTRIBUTE zip; DELETE FROM t WHERE id > 2")

    error = homes.try_sync("public.t").error or ""

    assert "would delete 1998 of the target's 2000 rows" in error and "Nothing was merged" in error
    assert homes.target.fetch("SELECT home::text, count(*) FROM t WHERE id > 2 GROUP BY 1") == [("(s,t)", 1998)]
    homes.sync("public.t", allow_mass_delete=True)
    homes.assert_equal("public.t")


def test_a_row_type_of_the_target_that_has_other_columns_is_refused(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE other (a text, b text); CREATE TABLE t (id int PRIMARY KEY, r other);"
        "INSERT INTO t VALUES (1, ROW('a', 'b'))"
    )
    replica.target.execute("CREATE TABLE other (b text, a text)")

    assert "(a text, b text) at the source and (b text, a text) in the target" in (
        replica.try_sync("public.t").error or ""
    )
    replica.target.execute("DROP TABLE other; CREATE TABLE other (a text, b text)")
    replica.sync("public.t")
    replica.assert_equal("public.t")


def test_values_stored_as_text_are_read_again_when_they_print_otherwise(pair: Replica) -> None:
    table = {"source": "public.moods", "type_overrides": {"mood": "text"}}
    pair.sync(table)
    pair.source.execute("ALTER TYPE mood ADD VALUE 'd'")
    assert pair.sync(table).mode == "xmin_incremental"
    rename(pair.source, *SWAP)

    result = pair.sync(table)

    assert (result.mode, result.rows_updated) == ("full_sync", 2)
    assert moods(pair.target) == ["b", "a", "c"]


def test_values_in_a_column_that_was_made_text_by_hand_are_read_again_when_they_print_otherwise(pair: Replica) -> None:
    pair.sync("public.moods")
    pair.target.execute("ALTER TABLE moods ALTER mood TYPE text")
    pair.source.execute("INSERT INTO moods VALUES (4, 'b')")
    pair.sync("public.moods")
    rename(pair.source, *SWAP)

    pair.sync("public.moods")

    assert moods(pair.target) == ["b", "a", "c", "a"]


def test_a_where_clause_that_names_a_label_finds_other_rows_after_a_swap(pair: Replica) -> None:
    table = {"source": "public.moods", "where": "mood = 'a'"}
    pair.sync(table)
    rename(pair.source, *SWAP)

    pair.sync(table)

    assert pair.target.fetch("SELECT id, mood::text FROM moods") == [(2, "a")]


def test_a_renamed_label_is_no_fault_until_the_next_sync_renames_it(replica: Replica) -> None:
    replica.source.execute(MOODS)
    replica.sync("public.moods")
    rename(replica.source, *SWAP)
    replica.source.execute("INSERT INTO moods VALUES (4, 'c')")

    before = replica.verify("public.moods")
    replica.sync("public.moods")
    after = replica.verify("public.moods")

    assert (before.status, before.pending, before.different) == ("match", 1, 0)
    assert "mood prints its values otherwise since the type public.mood was changed" in (before.note or "")
    assert (after.status, after.pending, after.note) == ("match", 0, None)


STRICTER = {
    "a check": ("CHECK (VALUE > 0)", "UPDATE t SET v = 5 WHERE id = 1"),
    "a check, and the row goes": ("CHECK (VALUE > 0)", "DELETE FROM t WHERE id = 1"),
    "a value": ("NOT NULL", "UPDATE t SET v = 5 WHERE v IS NULL"),
}


@pytest.mark.parametrize(("demand", "change"), STRICTER.values(), ids=[*STRICTER])
@pytest.mark.parametrize("mode", ["xmin_incremental", "full_sync"])
def test_a_domain_that_demands_more_of_the_target_comes_when_its_rows_do(
    replica: Replica, demand: str, change: str, mode: str
) -> None:
    replica.source.execute("CREATE DOMAIN d AS int; CREATE TABLE t (id int PRIMARY KEY, v int)")
    replica.target.execute(f"CREATE DOMAIN d AS int {demand}")
    replica.source.execute(f"INSERT INTO t VALUES (1, -5), (2, 3), (3, {'NULL' if 'NULL' in demand else '4'})")
    table = {"source": "public.t", "mode": mode}
    replica.sync(table)
    replica.source.execute(f"{change}; ALTER TABLE t ALTER v TYPE d")

    replica.sync(table)

    replica.assert_equal("public.t")
    assert replica.verify(table).status == "match"
    replica.source.execute("INSERT INTO t VALUES (9, %s)", (None if "NULL" in demand else -1,))
    if mode == "full_sync" or "CHECK" in demand:
        assert "If the source has no such constraint, drop it" in str(replica.try_sync(table).error)
