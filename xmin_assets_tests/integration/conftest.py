"""The two ways in which a sync finds what changed, for suites that run in both."""

from __future__ import annotations

from typing import Any

import pytest

from xmin_assets.replication.changed_blocks import block_map
from xmin_assets_tests.conftest import TOO_OLD

EVERY, CHANGED = "every block", "changed blocks"

one_mode = pytest.mark.parametrize("blocks", [EVERY], indirect=True)
"""Of a test that is not about how changes are found, or another of whose kind runs in both modes."""

by_blocks = pytest.mark.parametrize("blocks", [CHANGED], indirect=True)
"""Of a test that is about that mode alone."""


@pytest.fixture(params=[EVERY, CHANGED])
def blocks(request: pytest.FixtureRequest) -> str:
    """Which blocks the syncs read."""
    return str(request.param)


@pytest.fixture
def options(blocks: str, summarizing: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration of a table for it; its source must be one that summarizes its WAL and has pg_walinspect."""
    if blocks == EVERY:
        return {}
    if not summarizing:
        pytest.skip(TOO_OLD)
    # Of the tests' small tables a map is never worth it.
    monkeypatch.setattr(block_map, "MOST_SHARE", 1000)
    return {"track_blocks": True}
