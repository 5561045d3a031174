"""What must happen to the target's columns, from facts alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from xmin_assets.config import TableConfig
from xmin_assets.config.deletes import Deletes
from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.catalog import Attribute
from xmin_assets.replication.manifests.operations import (
    AddColumn,
    AlterColumnType,
    ColumnOperation,
    DropDefault,
    DropNotNull,
    RenameColumn,
    describe,
)
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Column, Identity, Selection
from xmin_assets.replication.schema.column_changes import changed_columns

ID = Column(1, "id", "integer")
A = Column(2, "a", "text")
B = Column(3, "b", "text")


def attribute(number: int, name: str, kind: str, not_null: bool = False) -> Attribute:
    return Attribute(number, name, kind, not_null, virtual=None)


def selection(*columns: Column, deletes: Deletes = Deletes.HARD) -> Selection:
    return Selection((ID, *columns), ("id",), None, deletes)


def attributes(*columns: Column, not_null: tuple[str, ...] = ()) -> tuple[Attribute, ...]:
    return (
        attribute(1, "id", "integer", not_null=True),
        *(attribute(number, c.name, c.type, c.name in not_null) for number, c in enumerate(columns, start=2)),
        attribute(9, "source_xmin", "bigint"),
    )


def changes(
    before: Selection | None,
    now: Selection,
    target: tuple[Attribute, ...],
    *,
    same_relation: bool = True,
    allowed: bool = True,
) -> tuple[ColumnOperation, ...]:
    table = TableConfig(source="public.t", schema_changes="apply" if allowed else "fail")
    relation = Identity("7000", 1, 5, 100, ())
    state = before and State(
        revision=1,
        sync_id="20240229T120000-00",
        watermark=3,
        resync=None,
        max_xmin=3,
        rows=0,
        source_lsn=0,
        target_oid=900,
        source_table="public.t",
        identity=relation if same_relation else replace(relation, relation_oid=101),
        selection=before,
        merged_at=datetime(2024, 2, 29, tzinfo=timezone.utc),
    )
    return changed_columns(table, relation, now, target, state)


def rereads_rows(operations: tuple[ColumnOperation, ...]) -> bool:
    return any(operation.rereads_rows for operation in operations)


def renamed(column: Column, to: str) -> Column:
    return Column(column.attnum, to, column.type)


def test_nothing_is_done_where_nothing_changed() -> None:
    assert changes(selection(A), selection(A), attributes(A)) == ()


def test_new_attnum_is_an_added_column() -> None:
    assert changes(selection(A), selection(A, B), attributes(A)) == (AddColumn("b", "text"),)


def test_known_attnum_under_another_name_is_a_rename() -> None:
    assert changes(selection(A), selection(renamed(A, "b")), attributes(A)) == (RenameColumn("a", "b"),)


def test_names_that_were_exchanged_go_by_way_of_names_that_nobody_has() -> None:
    now = selection(renamed(A, "b"), renamed(B, "a"))

    done = changes(selection(A, B), now, attributes(A, B))

    names = ["a", "b"]
    for step in done:
        assert isinstance(step, RenameColumn)
        assert step.to not in names
        names[names.index(step.name)] = step.to
    assert names == ["b", "a"]


def test_name_that_a_new_column_took_from_a_renamed_one_is_added() -> None:
    now = selection(renamed(A, "old_a"), Column(4, "a", "integer"))

    assert changes(selection(A), now, attributes(A)) == (RenameColumn("a", "old_a"), AddColumn("a", "integer"))


def test_other_type_of_a_known_column_is_a_new_type() -> None:
    now = selection(Column(2, "a", "bigint"))

    assert changes(selection(Column(2, "a", "integer")), now, attributes(Column(2, "a", "integer"))) == (
        AlterColumnType("a", "bigint", "integer"),
    )


def test_type_that_the_target_already_has_is_left_alone() -> None:
    now = Column(2, "a", "bigint")

    assert changes(selection(Column(2, "a", "integer")), selection(now), attributes(now)) == ()


def test_column_that_is_gone_is_kept_and_may_be_null() -> None:
    assert changes(selection(A, B), selection(A), attributes(A, B)) == ()
    assert changes(selection(A, B), selection(A), attributes(A, B, not_null=("b",))) == (DropNotNull("b"),)


def test_a_not_null_that_the_source_gives_up_is_given_up_in_the_target() -> None:
    was, now = replace(A, not_null=True), replace(A, not_null=False)
    target = attributes(A, not_null=("a",))
    relaxed = (DropNotNull("a", is_copied=True),)

    assert changes(selection(was), selection(now), target) == relaxed
    assert changes(selection(was), selection(replace(now, name="c")), target) == (
        RenameColumn("a", "c"),
        DropNotNull("c", is_copied=True),
    )
    assert changes(selection(was), selection(now), attributes(A)) == ()
    assert changes(selection(was), selection(now), target, allowed=False) == ()


@pytest.mark.parametrize("before", [False, None])
def test_a_not_null_of_the_target_alone_is_left(before: bool | None) -> None:
    target = attributes(A, not_null=("a",))

    assert changes(selection(replace(A, not_null=before)), selection(replace(A, not_null=False)), target) == ()
    assert changes(None, selection(replace(A, not_null=False)), target) == ()


def test_column_dropped_and_added_again_under_its_name_is_another_one() -> None:
    again = Column(4, "a", "text")

    assert changes(selection(A), selection(again), attributes(A)) == (DropDefault("a"),)


def test_column_that_took_the_name_of_one_that_is_gone_puts_the_old_values_by() -> None:
    done = changes(selection(A), selection(Column(4, "a", "integer")), attributes(A))

    assert done == (RenameColumn("a", "a_dropped"), AddColumn("a", "integer"))


def test_columns_of_another_relation_go_by_name() -> None:
    now = selection(Column(2, "b", "text"), Column(3, "a", "text"))

    assert changes(selection(A, B), now, attributes(A, B), same_relation=False) == ()


def test_target_not_made_from_the_source_must_have_its_types() -> None:
    with pytest.raises(SchemaChangeRefused, match="a is text at the source and integer in the target table"):
        changes(None, selection(A), attributes(Column(2, "a", "integer")))


def test_own_columns_are_added_to_a_table_that_lacks_them() -> None:
    done = changes(None, selection(A, deletes=Deletes.SOFT), attributes(A)[:-1])

    assert done == (
        AddColumn("source_xmin", "bigint", is_metadata=True),
        AddColumn("source_deleted_at", "timestamp with time zone", is_metadata=True),
    )
    assert not rereads_rows(done)


def test_forbidden_changes_are_refused_and_own_columns_are_not() -> None:
    with pytest.raises(SchemaChangeRefused, match=r"column b added\) and schema_changes is 'fail'"):
        changes(selection(A), selection(A, B), attributes(A), allowed=False)
    assert changes(selection(A), selection(A, deletes=Deletes.SOFT), attributes(A), allowed=False)


@pytest.mark.parametrize(
    ("change", "needed", "words"),
    [
        (AddColumn("a", "text"), True, "column a added"),
        (AlterColumnType("a", "bigint", "integer"), True, "column a is now bigint"),
        (DropDefault("a"), True, "column a is another one now"),
        (RenameColumn("a", "b"), False, "column a renamed to b"),
        (DropNotNull("a"), False, "column a no longer copied"),
        (DropNotNull("a", is_copied=True), False, "column a may be NULL"),
    ],
)
def test_changes_that_no_xmin_tells_of_need_all_rows(change: ColumnOperation, needed: bool, words: str) -> None:
    assert rereads_rows((change,)) is needed
    assert describe((change,)) == words
