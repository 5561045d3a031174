"""What each mode of `deletes` means, and when deleted rows are looked for."""

from __future__ import annotations

import pytest

from xmin_assets.config import TableConfig
from xmin_assets.config.deletes import DeleteDetection, Deletes


@pytest.mark.parametrize(
    ("mode", "detects", "removes", "marks", "keeps"),
    [
        (Deletes.HARD, True, True, False, False),
        (Deletes.SOFT, True, False, True, False),
        (Deletes.IGNORE, False, False, False, True),
    ],
)
def test_what_becomes_of_a_row_that_was_deleted(
    mode: Deletes, detects: bool, removes: bool, marks: bool, keeps: bool
) -> None:
    assert (mode.detects, mode.removes, mode.marks, mode.keeps) == (detects, removes, marks, keeps)


def test_every_mode_does_one_thing_with_such_a_row() -> None:
    assert all(mode.removes + mode.marks + mode.keeps == 1 for mode in Deletes)


def test_deleted_rows_are_looked_for_by_every_sync_or_once_in_an_interval() -> None:
    def interval(detection: object) -> float | None:
        return TableConfig.model_validate({"source": "public.t", "delete_detection": detection}).delete_interval

    assert interval(DeleteDetection.EVERY_SYNC) is None
    assert interval("every_sync") is None
    assert interval("1 hour") == 3600.0
    assert interval(90) == 90.0
