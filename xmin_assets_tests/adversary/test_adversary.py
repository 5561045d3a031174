"""Whatever a source does: after every sync the target is what an oracle saw under the sync's snapshot.

The histories are others every time. Their seed is in the header of the tests' output; ADVERSARY_SEED plays them again,
ADVERSARY_SECONDS as long as it says. A history that fails is kept as a file. `make fuzz` does it for long.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from xmin_assets_tests.adversary.campaign import campaign
from xmin_assets_tests.adversary.history import History, draw
from xmin_assets_tests.adversary.servers import Servers
from xmin_assets_tests.conftest import SEED

FOLDER = Path(__file__).parents[2] / "build" / "adversary"
SECONDS = float(os.environ.get("ADVERSARY_SECONDS", "30"))
APART = 1_000_000


@pytest.mark.timeout(SECONDS + 400)
@pytest.mark.parametrize("part", [0, 1])
def test_after_every_sync_the_target_is_what_the_oracle_saw(servers: Servers, part: int, tmp_path: Path) -> None:
    seed = int(os.environ[SEED]) + part * APART
    deadline = time.monotonic() + SECONDS
    said: list[str] = []
    found = campaign(servers, seed, deadline, FOLDER, tmp_path / "spool", shorten=60, say=said.append)
    print("\n".join(said))  # noqa: T201
    again = "; ".join(f"python -m xmin_assets_tests.adversary --replay {path}" for path in found)
    assert not found, "\n".join(line[:2000] for line in (*said, f"Play it again: {again}"))


def test_a_history_is_its_seeds_and_survives_a_file(tmp_path: Path) -> None:
    drawn = draw(7)
    drawn.write(tmp_path / "7.json")
    assert History.load(tmp_path / "7.json") == drawn == draw(7) != draw(8)
