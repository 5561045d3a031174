"""Arithmetic of transaction ids that never wrap. What the SQL of the same module gives is tested on a server."""

from __future__ import annotations

import pytest

from xmin_assets.postgres import xid


@pytest.mark.parametrize(
    ("watermark", "horizon", "too_old"),
    [
        (1000, 1000, False),
        (1000, 1000 + 2**31, False),
        (1000, 1000 + 2**32 - 1, False),
        (1000, 1000 + 2**32, True),
        (1000, 1000 + 3 * 2**32, True),
        (7 * 2**32 - 1, 7 * 2**32 + 3, False),
    ],
)
def test_watermark_is_wrapped_from_a_whole_cycle_on(watermark: int, horizon: int, too_old: bool) -> None:
    assert xid.wrapped(watermark, horizon) is too_old
