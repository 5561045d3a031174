"""A command that is told to stop does so soon, with the status a shell expects, and leaves nothing running."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from xmin_assets_tests.acceptance.conftest import Cli
from xmin_assets_tests.clusters import Database

WAITING = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"
OURS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'xmin_assets'"


@pytest.fixture
def orders(source_db: Database, cli: Cli) -> Database:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    source_db.execute("INSERT INTO orders VALUES (1)")
    cli.configure("public.orders")
    return source_db


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_sync_that_waits_for_the_server(
    cli: Cli, orders: Database, target_db: Database, number: int, status: int
) -> None:
    blocker = orders.connect()
    blocker.autocommit = False
    blocker.cursor().execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
    with cli.start("sync", "--json") as running:
        wait_until(lambda: orders.fetch(WAITING))
        signalled = time.monotonic()

        running.send_signal(number)
        _, stderr = running.communicate(timeout=20)

    assert running.returncode == status
    assert time.monotonic() - signalled < 5
    assert "Stopping" in stderr
    assert "Traceback" not in stderr
    wait_until(lambda: not orders.fetch(OURS))
    assert target_db.fetch("SELECT to_regclass('orders')") == [(None,)]

    blocker.rollback()
    assert cli("sync", "--json").table["rows_inserted"] == 1


def test_a_signal_ends_a_verify_that_waits_for_the_server(cli: Cli, orders: Database) -> None:
    assert cli("sync").status == 0
    blocker = orders.connect()
    blocker.autocommit = False
    blocker.cursor().execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
    with cli.start("verify", "--json") as running:
        wait_until(lambda: orders.fetch(WAITING))
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=20)

    assert (running.returncode, stderr) == (130, "Stopping.\n")
    wait_until(lambda: not orders.fetch(OURS))
