"""Histories that an engine of before has failed, each for another reason; their files say what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmin_assets_tests.adversary.campaign import failing
from xmin_assets_tests.adversary.history import History
from xmin_assets_tests.adversary.runner import Tally
from xmin_assets_tests.adversary.servers import Servers

KEPT = sorted((Path(__file__).parent / "kept").glob("*.json"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("path", KEPT, ids=[path.stem for path in KEPT])
def test_a_history_that_once_failed_does_not_any_more(servers: Servers, path: Path, tmp_path: Path) -> None:
    assert failing(servers, History.load(path), tmp_path / "spool", Tally(), tmp_path / "hanging.json") is None
