"""Whatever several sessions do, in whatever order: after each sync the target is the source as of its snapshot.

The examples are the same in every run. INTERLEAVING_EXAMPLES=2000 runs that many others, different each time, and takes
its time to shorten a history that fails.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from xmin_assets_tests.integration.interleaving.harness import WatchedTable
from xmin_assets_tests.integration.interleaving.histories import WRITERS, Histories

ASKED = int(os.environ.get("INTERLEAVING_EXAMPLES", "0"))

PLAIN = """
CREATE TABLE t (id int, part int, v text, PRIMARY KEY (id, part) DEFERRABLE) WITH (autovacuum_enabled = off)
"""
PARTITIONED = """
CREATE TABLE t (id int, part int, v text, PRIMARY KEY (id, part) DEFERRABLE) PARTITION BY LIST (part);
CREATE TABLE t0 PARTITION OF t FOR VALUES IN (0) WITH (autovacuum_enabled = off);
CREATE TABLE t1 PARTITION OF t DEFAULT PARTITION BY RANGE (id);
CREATE TABLE t1_low PARTITION OF t1 FOR VALUES FROM (0) TO (5) WITH (autovacuum_enabled = off);
CREATE TABLE t1_high PARTITION OF t1 FOR VALUES FROM (5) TO (MAXVALUE) WITH (autovacuum_enabled = off);
"""


@pytest.mark.timeout(0 if ASKED else 300)
@pytest.mark.parametrize(
    ("create", "options"),
    [
        pytest.param(PLAIN, {}, id="plain table"),
        pytest.param(PARTITIONED, {}, id="partitioned table"),
        pytest.param(PLAIN, {"where": "part <> 1"}, id="some of its rows"),
        pytest.param(PLAIN, {"mode": "full_sync"}, id="all rows every time"),
    ],
)
def test_after_each_sync_the_target_is_the_source_as_of_the_syncs_snapshot(
    empty: WatchedTable, create: str, options: dict[str, str]
) -> None:
    if "mode" in options and empty.options:
        pytest.skip("all rows are read, whatever blocks changed")
    empty.key, empty.options = ("id", "part"), {**empty.options, **options}
    # A step waits for nobody: what would have to wait fails at once, in the sessions and in the engine.
    empty.replica = replace(empty.replica, settings={"workers": 1, "lock_timeout": 0.05})
    sessions = [empty.session() for _ in range(WRITERS + 1)]
    for session in sessions:
        session.run("SET lock_timeout = '1ms'")
    machine = type(
        "History", (Histories,), {"table": empty, "create": create, "writers": sessions[1:], "vacuum": sessions[0]}
    )
    run_state_machine_as_test(
        machine if ASKED else seed(create + str(options))(machine),
        settings=settings(
            max_examples=ASKED or 10,
            derandomize=not ASKED,
            database=None,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.generate, Phase.shrink] if ASKED else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
