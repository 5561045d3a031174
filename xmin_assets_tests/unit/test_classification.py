"""What a difference means: by the watermark, by who wrote the row, and by how many rows there are."""

from __future__ import annotations

import pytest

from xmin_assets.replication.state.history import MergeXids
from xmin_assets.replication.verification.classification import (
    EXAMPLES,
    Classification,
    DifferenceClassifier,
    Rules,
    SourceRow,
    TargetRow,
)

W = 1000
MERGES = MergeXids(50, frozenset({50, 60, 70}))
OURS, FOREIGN, FORGOTTEN = 60, 65, 40


def classifier(
    watermark: int | None = W, *, compares: bool = False, keeps: bool = False, merges: MergeXids = MERGES
) -> DifferenceClassifier:
    return DifferenceClassifier(Rules(watermark, compares, merges, keeps))


def counts(classification: Classification) -> dict[str, int]:
    return {str(kind): tally.count for kind, tally in classification.tallies.items() if tally.count}


def both(
    rules: DifferenceClassifier, xid64: int | None, source_xmin: int | None, *, is_fresh: bool = False
) -> dict[str, int]:
    rules.on_both_sides(("k",), SourceRow(1, xid64, is_fresh), TargetRow(2, source_xmin, OURS))
    return counts(rules.classify(1, 1))


@pytest.mark.parametrize(("xid64", "kind"), [(W - 1, "missing"), (W, "pending"), (W + 1, "pending")])
def test_a_row_that_the_last_sync_saw_is_missing_and_a_later_one_is_pending(xid64: int, kind: str) -> None:
    rules = classifier()
    rules.only_at_source(("k",), SourceRow(1, xid64, False))

    assert counts(rules.classify(0, 0)) == {kind: 1}


def test_a_row_of_a_new_partition_is_pending_however_old_it_is() -> None:
    rules = classifier()
    rules.only_at_source(("k",), SourceRow(1, 3, True))

    assert counts(rules.classify(0, 0)) == {"pending": 1}


def test_values_are_pending_only_where_the_next_sync_writes_them() -> None:
    assert both(classifier(), W - 1, 5) == {"different": 1}
    assert both(classifier(), W, 5) == {"pending": 1}
    assert both(classifier(), W, W) == {"different": 1}
    assert both(classifier(compares=True), W, W) == {"pending": 1}
    assert both(classifier(compares=True), W - 1, W - 1) == {"different": 1}
    assert both(classifier(compares=True), W - 1, W - 1, is_fresh=True) == {"pending": 1}
    assert both(classifier(None), None, 5) == {"different": 1}


def test_equal_rows_are_no_difference() -> None:
    rules = classifier()
    rules.on_both_sides(("k",), SourceRow(1, W, False), TargetRow(1, None, FOREIGN))

    assert counts(rules.classify(1, 1)) == {}


def alone(rules: DifferenceClassifier, **rows: int) -> None:
    """Rows that only the target has: unattributed, foreign, ours, forgotten."""
    for kind, number in rows.items():
        xid = {"unattributed": OURS, "foreign": FOREIGN, "ours": OURS, "forgotten": FORGOTTEN}[kind]
        for n in range(number):
            rules.only_in_target((f"{kind}{n}",), TargetRow(1, None if kind == "unattributed" else 7, xid))


def came(rules: DifferenceClassifier, rows: int) -> None:
    for n in range(rows):
        rules.only_at_source((f"new{n}",), SourceRow(1, W, False))


# What only the target has; rows that came at the source; rows after the last sync and now; how many are extra.
GHOSTS = {
    "deleted rows": ({"ours": 4}, 0, (10, 10), 0),
    "an unexpected row written by somebody else": ({"ours": 4, "foreign": 1}, 0, (10, 11), 1),
    "an unexpected row that nobody can tell from deleted rows": ({"ours": 5}, 0, (10, 11), 1),
    "an unexpected row older than the history": ({"forgotten": 1}, 0, (10, 11), 1),
    "deleted rows that their owner rewrote": ({"foreign": 4}, 0, (10, 10), 0),
    "an unexpected row among them": ({"foreign": 5}, 0, (10, 11), 1),
    "an unexpected row, and a lost row that seems to have come": ({"foreign": 1}, 1, (10, 10), 1),
    "rows that came, and rewritten ones that went": ({"foreign": 3}, 2, (10, 10), 0),
    "a row without source_xmin, whatever the counts say": ({"unattributed": 1, "ours": 2}, 0, (10, 10), 1),
    "more by the counts than there are": ({"ours": 1}, 0, (10, 20), 1),
    "fewer rows than there were": ({"ours": 1}, 0, (10, 5), 0),
}


@pytest.mark.parametrize(("lone", "new", "rows", "extra"), GHOSTS.values(), ids=GHOSTS.keys())
def test_unexpected_rows_are_as_many_as_the_counts_say(
    lone: dict[str, int], new: int, rows: tuple[int, int], extra: int
) -> None:
    rules = classifier()
    alone(rules, **lone)
    came(rules, new)

    found = counts(rules.classify(*rows))

    assert found.get("extra", 0) == extra
    assert found.get("pending", 0) == sum(lone.values()) - extra + new


def test_of_a_target_that_its_owner_rewrote_only_the_counts_tell_of_unexpected_rows() -> None:
    for not_deleted, extra in ((10, 0), (11, 1)):
        rules = classifier()
        alone(rules, foreign=3)
        came(rules, 5)
        for _ in range(7):
            rules.on_both_sides(("k",), SourceRow(1, 3, False), TargetRow(1, 3, FOREIGN))

        assert counts(rules.classify(10, not_deleted)).get("extra", 0) == extra


def test_a_lost_row_makes_room_for_an_unexpected_row() -> None:
    rules = classifier()
    alone(rules, foreign=1, ours=2)
    rules.only_at_source(("lost",), SourceRow(1, W - 1, False))

    assert counts(rules.classify(10, 10)) == {"missing": 1, "extra": 1, "pending": 2}


def test_the_surest_unexpected_rows_are_named_first_and_none_where_it_is_a_guess() -> None:
    rules = classifier()
    alone(rules, unattributed=1, foreign=1, ours=3)
    sure = rules.classify(10, 12)
    assert (sure.tallies["extra"].keys, sure.is_vague) == ([("unattributed0",), ("foreign0",)], False)
    assert sure.tallies["pending"].keys == [("ours0",), ("ours1",), ("ours2",)]

    vague = rules.classify(10, 13)
    assert (vague.tallies["extra"].count, vague.is_vague) == (3, True)
    assert vague.tallies["extra"].keys == [("unattributed0",), ("foreign0",)]
    assert vague.tallies["pending"].keys == []


def test_where_the_watermark_means_nothing_all_that_only_the_target_has_is_extra() -> None:
    rules = classifier(None)
    alone(rules, ours=3)

    assert counts(rules.classify(10, 10)) == {"extra": 3}


def test_where_deleted_rows_are_kept_none_of_them_is_extra_or_pending() -> None:
    rules = classifier(keeps=True)
    alone(rules, ours=3, unattributed=1)

    assert counts(rules.classify(10, 14)) == {}


@pytest.mark.parametrize(("rewritten", "extra"), [(0, 3), (1, 3), (2, 1)])
def test_in_a_sample_being_written_by_somebody_else_counts_where_it_is_rare(rewritten: int, extra: int) -> None:
    rules = classifier()
    alone(rules, unattributed=1, foreign=2, ours=4)
    for n in range(10):
        rules.on_both_sides(("k",), SourceRow(1, 3, False), TargetRow(1, 3, FOREIGN if n < rewritten else OURS))

    assert counts(rules.classify(10, None)) == {"extra": extra, "pending": 7 - extra}


def test_no_more_keys_are_kept_than_are_named() -> None:
    rules = classifier()
    came(rules, 100)
    alone(rules, ours=100)

    pending = rules.classify(100, 100).tallies["pending"]

    assert (pending.count, len(pending.keys)) == (200, EXAMPLES)


def test_who_wrote_a_row_is_known_from_the_oldest_merge_on() -> None:
    assert [MERGES.foreign(xid) for xid in (49, 50, 51, 60, 71)] == [False, False, True, False, True]
    assert not MergeXids(None).foreign(5)
