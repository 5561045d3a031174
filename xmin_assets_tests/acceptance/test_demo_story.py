"""``make demo``, told twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xmin_assets.demo import down, up
from xmin_assets_tests.clusters import Workshop


@pytest.fixture
def project(workshop: Workshop) -> Iterator[Path]:
    folder = workshop.folder / "story"
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    down(folder, purge=True)


def tell(project: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XMIN_SOURCE_URL": "postgresql://nowhere.invalid/wrong", "NO_COLOR": "1"}
    environment["HOME"] = environment["XDG_CACHE_HOME"] = "/nonexistent"
    return subprocess.run(
        [sys.executable, "-m", "xmin_assets.demo"],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )


def counts(output: str, step: int, table: str) -> list[int]:
    """Extracted, inserted, updated, deleted of a table in the numbered step's table."""
    part = output.split(f"\n{step}. ")[1].split("\n\n")[0]
    found = re.search(rf"^{table} +\w+ +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+) ", part, re.MULTILINE)
    assert found is not None, part
    return [int(number.replace(",", "")) for number in found.groups()]


def test_the_story_is_told_again_and_again(project: Path) -> None:
    first = tell(project)
    assert (first.returncode, first.stderr) == (0, "")
    assert "started on ports" in first.stdout
    assert counts(first.stdout, 2, "securities") == [200_000, 200_000, 0, 0]
    assert counts(first.stdout, 2, "orders") == [300_000, 300_000, 0, 0]
    assert counts(first.stdout, 2, "customers") == [50_000, 50_000, 0, 0]
    for table in ("securities", "orders", "customers"):
        assert counts(first.stdout, 4, table) == [2500, 500, 2000, 250]
    # The source summarizes its WAL, so a table whose changes lie together is read where it changed.
    read = re.search(r"^orders .* ([\d,]+) of ([\d,]+) ", first.stdout, re.MULTILINE)
    assert read
    changed, blocks = read.groups()
    assert int(changed.replace(",", "")) * 10 < int(blocks.replace(",", ""))
    assert max(map(len, first.stdout.splitlines())) <= 80
    assert first.stdout.count(": equal") == 3
    assert "make dev" in first.stdout
    assert "demo down" in first.stdout

    second = tell(project)
    assert (second.returncode, second.stderr) == (0, "")
    assert "already running on ports" in second.stdout
    for table in ("securities", "orders", "customers"):
        assert counts(second.stdout, 2, table) == [0, 0, 0, 0]
        assert counts(second.stdout, 4, table) == [2500, 500, 2000, 250]
    assert second.stdout.count(": equal") == 3
    assert up(project).started == ()
