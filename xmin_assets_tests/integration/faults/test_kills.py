"""The process is killed: whatever it was doing, the copy is from before or after, and one plain sync mends the rest."""

from __future__ import annotations

import random
import signal
import threading
import time

import pytest

from xmin_assets_tests.integration.faults.failpoints import OF_A_FIRST_SYNC, OF_A_LATER_SYNC, OF_A_LOAD
from xmin_assets_tests.integration.faults.watched_table import TABLE, WatchedTable, backends
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.waiting import wait_until


def kill_at(watched: WatchedTable, failpoint: str) -> None:
    with watched.start(failpoint=failpoint) as running:
        stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL, (stdout, stderr)


@pytest.mark.parametrize("failpoint", OF_A_LATER_SYNC)
def test_a_sync_that_is_killed_leaves_the_copy_as_it_was_or_as_it_was_to_become(
    watched: WatchedTable, failpoint: str
) -> None:
    kill_at(watched, failpoint)

    watched.assert_whole()
    watched.sync()


@pytest.mark.parametrize("failpoint", OF_A_FIRST_SYNC)
def test_a_first_sync_that_is_killed_leaves_no_copy_or_a_whole_one(fresh: WatchedTable, failpoint: str) -> None:
    kill_at(fresh, failpoint)

    fresh.assert_whole()
    fresh.sync()


@pytest.mark.parametrize("failpoint", OF_A_LOAD)
def test_a_load_by_chunks_that_is_killed_goes_on(fresh: WatchedTable, failpoint: str) -> None:
    with open(fresh.environment["XMIN_CONFIG"], "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write('{"tables": [{"source": "public.items", "load_chunk": "32 KiB"}]}')
    kill_at(fresh, failpoint)
    fresh.assert_whole()
    fresh.replica.source.execute("DELETE FROM items WHERE id % 50 = 0; UPDATE items SET n = n + 1 WHERE id % 70 = 0")

    fresh.replica.sync({"source": TABLE, "load_chunk": "32 KiB"})
    fresh.replica.assert_equal(TABLE)
    assert fresh.replica.target.fetch("SELECT load_id FROM xmin_assets.loads") == []


@pytest.mark.parametrize("failpoint", ["after the extract", "after the stage", "after the commit"])
def test_what_was_left_behind_goes_with_the_next_sync_even_if_that_has_nothing_to_do(
    watched: WatchedTable, failpoint: str
) -> None:
    kill_at(watched, failpoint)
    watched.replica.source.execute("BEGIN; UPDATE items SET n = 7; ROLLBACK")

    watched.sync()


def test_kills_at_twenty_moments_while_the_source_changes(watched: WatchedTable) -> None:
    """Money moves between rows, so every snapshot has the same sum; a copy between two of them would not."""
    source, target = watched.replica.source, watched.replica.target
    source.execute("UPDATE items SET n = 0")
    watched.replica.sync(TABLE)
    done = threading.Event()
    writer = source.connect()

    def move() -> None:
        chance = random.Random(1)
        with writer.cursor() as cursor:
            while not done.is_set():
                giver, taker = chance.sample(range(4001, 4051), 2)
                cursor.execute(
                    "BEGIN; UPDATE items SET n = n - 1 WHERE id = %s; UPDATE items SET n = n + 1 WHERE id = %s; COMMIT",
                    (giver, taker),
                )
                time.sleep(0.002)

    mover = threading.Thread(target=move)
    mover.start()
    killed = 0
    try:
        for turn in range(20):
            with watched.start() as running:
                # From the first imports to some time after a whole sync has ended.
                time.sleep(0.15 + turn * 0.03)
                running.kill()
                running.communicate(timeout=60)
            killed += running.returncode == -signal.SIGKILL
            assert target.fetch("SELECT sum(n), count(*) FROM items") == [(0, 4010)]
    finally:
        done.set()
        mover.join()

    assert killed > 5
    watched.sync()


def test_statements_of_a_process_that_was_killed_end_soon(replica: Replica) -> None:
    watched = WatchedTable.create(replica)
    config = watched.environment["XMIN_CONFIG"]
    with open(config, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write('{"tables": [{"source": "public.items", "where": "pg_sleep(0.05) IS NOT NULL"}]}')
    with watched.start() as running:
        wait_until(lambda: backends(replica.source) > 0)
        time.sleep(0.5)
        running.kill()
        running.communicate(timeout=60)

    wait_until(lambda: backends(replica.source) == 0, 5)
