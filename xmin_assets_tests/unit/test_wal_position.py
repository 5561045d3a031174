"""Where a record ends, told from where the next one begins."""

from __future__ import annotations

import pytest

from xmin_assets.postgres.server import record_end

PAGE, SEGMENT = 8192, 16 * 1024**2


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        (3 * SEGMENT + 40, 3 * SEGMENT),
        (3 * SEGMENT + 5 * PAGE + 24, 3 * SEGMENT + 5 * PAGE),
        # A record that runs over into a page ends there after at least 8 bytes.
        (3 * SEGMENT + 5 * PAGE + 32, 3 * SEGMENT + 5 * PAGE + 32),
        (3 * SEGMENT + 5 * PAGE + 40, 3 * SEGMENT + 5 * PAGE + 40),
        (3 * SEGMENT + 48, 3 * SEGMENT + 48),
        (3 * SEGMENT, 3 * SEGMENT),
        (3 * SEGMENT + 5 * PAGE, 3 * SEGMENT + 5 * PAGE),
    ],
)
def test_header_of_a_page_is_part_of_no_record(begins: int, ends: int) -> None:
    assert record_end(begins, PAGE, SEGMENT) == ends
