"""Which key of a target goes and which one comes, from facts alone."""

from __future__ import annotations

import pytest

from xmin_assets.replication.manifests.facts import PrimaryKey, TargetKeys
from xmin_assets.replication.manifests.operations import (
    AddKey,
    ColumnOperation,
    DropColumn,
    DropKey,
    DropNotNull,
    RenameColumn,
)
from xmin_assets.replication.schema.key_changes import changed_key

OURS = TargetKeys((("id",),), PrimaryKey("t_pkey", ("id",)))
NO_KEY = TargetKeys()


def test_a_key_that_is_there_stays() -> None:
    assert changed_key(OURS, ("id",), ("id",), ()) == (None, None)
    assert changed_key(TargetKeys((("id",), ("a", "b"))), ("id",), ("a", "b"), ()) == (None, None)


def test_a_key_that_somebody_dropped_comes_back() -> None:
    assert changed_key(NO_KEY, ("id",), ("id",), ()) == (None, AddKey(("id",), is_primary=True))


def test_the_key_of_the_last_sync_makes_room_for_another_one() -> None:
    drop, add = changed_key(OURS, ("id",), ("a", "b"), ())

    assert (drop, add) == (DropKey("t_pkey", nullable=("id",)), AddKey(("a", "b"), is_primary=True))


def test_a_key_that_is_not_ours_stays_beside_ours() -> None:
    for former in (None, ("a",)):
        assert changed_key(OURS, former, ("b",), ()) == (None, AddKey(("b",), is_primary=False))


def test_without_a_key_ours_goes_and_none_comes() -> None:
    assert changed_key(OURS, ("id",), (), ()) == (DropKey("t_pkey", nullable=("id",)), None)
    assert changed_key(OURS, None, (), ()) == (None, None)


@pytest.mark.parametrize(
    ("operations", "key", "expected"),
    [
        ((RenameColumn("id", "number"),), ("number",), (None, None)),
        (
            (RenameColumn("id", "number"),),
            ("number", "a"),
            (DropKey("t_pkey", nullable=()), AddKey(("number", "a"), is_primary=True)),
        ),
        # It is dropped first, while its columns have their former names.
        ((RenameColumn("id", "id_dropped"),), ("id",), (DropKey("t_pkey", ("id",)), AddKey(("id",), is_primary=True))),
        (
            (RenameColumn("id", "id_dropped"), DropNotNull("id_dropped")),
            ("id",),
            (DropKey("t_pkey", nullable=()), AddKey(("id",), is_primary=True)),
        ),
        # A primary key goes with its column.
        ((DropColumn("id"),), ("a",), (None, AddKey(("a",), is_primary=True))),
    ],
)
def test_keys_follow_what_is_done_to_their_columns(
    operations: tuple[ColumnOperation, ...],
    key: tuple[str, ...],
    expected: tuple[DropKey | None, AddKey | None],
) -> None:
    assert changed_key(OURS, ("id",), key, operations) == expected
