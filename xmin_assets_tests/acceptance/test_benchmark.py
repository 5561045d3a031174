"""The benchmark runs, on few rows: whoever takes part is measured, and a wrong copy is told from a right one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.equality import EQUAL, compare, contents_of
from benchmarks.results import Results
from xmin_assets_tests.clusters import Database, Workshop

ROOT = Path(__file__).parents[2]


def test_scenarios_are_run_in_turns_and_every_copy_is_compared(workshop: Workshop, tmp_path: Path) -> None:
    asked = ["--only", "full,updated_1,deleted_1", "--rows", "3000", "--runs", "1", "--peers", "none"]
    # Where the tests' own servers are, which need not be on disk.
    asked += ["--folder", str(workshop.folder.parent)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "scenarios", *asked, "--results", tmp_path],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    results = Results.read(tmp_path / "selection.json")
    assert results.skipped == []
    assert [(one.scenario, one.role) for one in results.measurements] == [
        ("full", "ours"),
        ("full", "baseline"),
        ("full", "reference"),
        ("updated_1", "ours"),
        ("updated_1", "baseline"),
        ("deleted_1", "ours"),
        ("deleted_1", "baseline"),
    ]
    assert {one.verdict for one in results.measurements} == {EQUAL}
    assert min(one.seconds for one in results.measurements) > 0
    for one in results.measurements:
        assert one.left_bytes == 0
        if one.role == "ours":
            assert 10 << 20 < one.memory_bytes < 500 << 20
        if one.scenario == "full":
            # What is loaded is in the WAL, and in the spool if it went through there.
            assert one.wal_bytes > 0.8 * one.data_bytes
    assert "full load" in done.stdout and "equal" in done.stdout


def test_a_copy_that_lacks_something_is_not_called_equal(source_db: Database, target_db: Database) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, v numeric(8, 2)); INSERT INTO t VALUES (1, 1.50), (2, NULL)")
    wanted = contents_of(source_db, ("t",))

    assert "does not exist" in compare(wanted, target_db)
    target_db.execute("CREATE TABLE t (own text, v numeric, id bigint); INSERT INTO t VALUES ('x', 1.5, 1)")
    assert compare(wanted, target_db) == "1 rows too few, no key"
    target_db.execute("INSERT INTO t VALUES ('x', NULL, 2); ALTER TABLE t ADD UNIQUE (id)")
    assert compare(wanted, target_db) == EQUAL
    target_db.execute("UPDATE t SET v = 0 WHERE id = 2")
    assert compare(wanted, target_db) == "values differ"
    target_db.execute("INSERT INTO t VALUES ('x', 0, 3)")
    assert compare(wanted, target_db) == "1 rows too many"
