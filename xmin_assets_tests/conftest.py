"""What every test can ask for: two real servers, and a fresh database in each.

    source_server, target_server    running servers, shared by the session (`.url()`, `.stop()`, `.run` ...)
    source_db, target_db            a fresh database per test: `.url`, `.execute`, `.fetch`, `.connect()`
    workshop                        makes more servers, for tests that crash or restart one of their own

No test sees the machine's settings: variables of PostgreSQL, Dagster and this project are removed, the home is an
empty folder, and so is the working directory, where there is no ``.env``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from types import FrameType

import psycopg2
import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.replication.changed_blocks.prerequisites import MIN_VERSION
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.replica import Replica

FOREIGN = ("XMIN_", "PG", "DAGSTER_")
PROGRAMS = "XMIN_POSTGRES_BIN"
SEED = "ADVERSARY_SEED"
"""Variable with the seed of the random histories, another one in each session."""

TOO_OLD = f"WAL summaries came with PostgreSQL {MIN_VERSION}"


def pytest_configure() -> None:
    # The programs that servers are made of are no setting but a part of the machine.
    for name in [name for name in os.environ if name.startswith(FOREIGN) and not name.startswith(PROGRAMS)]:
        del os.environ[name]
    # One for all processes of the session, which inherit it.
    os.environ.setdefault(SEED, str(SystemRandom().randrange(10**9)))
    # Ended from outside, as a cancelled CI job is, the session still takes its fixtures down.
    signal.signal(signal.SIGTERM, _end_session)
    # A shell starts what runs in its background with Ctrl-C ignored, which the programs under test would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return f"adversary: {SEED}={os.environ[SEED]}"


def _end_session(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def clean_machine(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the machine's settings, and what an earlier test may have set."""
    for name in [name for name in os.environ if name.startswith(FOREIGN) and not name.startswith(PROGRAMS)]:
        monkeypatch.delenv(name)
    # The default spool is in the home, and libpq and Dagster keep settings there too.
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def workshop() -> Iterator[Workshop]:
    opened = Workshop.open()
    try:
        yield opened
    finally:
        opened.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """As for the test itself: a fixture may make the extension."""
    with skip_without_extension():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a test of what the servers were built without."""
    with skip_without_extension():
        return (yield)


@contextmanager
def skip_without_extension() -> Iterator[None]:
    try:
        yield
    except psycopg2.errors.FeatureNotSupported as error:
        told = str(error).splitlines()[0]
        if told.startswith("extension ") and told.endswith(" is not available"):
            pytest.skip(f"on these servers the {told}")
        if told.endswith(" is not supported in this build"):
            pytest.skip(f"on one of these servers {told}")
        raise


@pytest.fixture(scope="session")
def source_server(workshop: Workshop) -> Cluster:
    return workshop.start("source")


@pytest.fixture(scope="session")
def target_server(workshop: Workshop) -> Cluster:
    return workshop.start_target("target")


@pytest.fixture(scope="session")
def summarizing(workshop: Workshop) -> dict[str, str]:
    """Settings of a server that summarizes its WAL; none where servers are too old for it."""
    return {"summarize_wal": "on"} if workshop.version >= MIN_VERSION else {}


@pytest.fixture(scope="session")
def summarizing_server(workshop: Workshop, summarizing: dict[str, str]) -> Iterator[Cluster]:
    """A source that summarizes its WAL; a server of its own, as a checkpoint is felt by all databases of one."""
    if not summarizing:
        pytest.skip(TOO_OLD)
    server = workshop.start("summarizing", **summarizing)
    yield server
    server.stop(immediate=True)


@pytest.fixture
def source_db(source_server: Cluster) -> Iterator[Database]:
    database = Database.create(source_server)
    yield database
    database.drop()


@pytest.fixture
def target_db(target_server: Cluster) -> Iterator[Database]:
    database = Database.create(target_server)
    yield database
    database.drop()


@pytest.fixture
def replica(source_db: Database, target_db: Database, tmp_path: Path) -> Replica:
    """A source and a target database, and the engine between them, with two workers."""
    return Replica(source_db, target_db, tmp_path / "spool", {"workers": 2})
