"""PgBouncer in transaction mode in front of both servers, and connections that are encrypted."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg2
import pytest

from xmin_assets.demo.cluster import SUPERUSER, Cluster
from xmin_assets.demo.programs import Programs
from xmin_assets.replication.sync import sync_tables
from xmin_assets.replication.verification.verify import verify_tables
from xmin_assets_tests.clusters import SETTINGS, Database, Workshop
from xmin_assets_tests.integration.faults.failpoints import at_failpoint
from xmin_assets_tests.integration.faults.proxy import url_by
from xmin_assets_tests.integration.faults.watched_table import TABLE, WatchedTable
from xmin_assets_tests.pooler import pooler
from xmin_assets_tests.programs import candidates
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.waiting import wait_until

OPENSSL = shutil.which("openssl")


@pytest.fixture
def bouncers(workshop: Workshop, replica: Replica) -> Iterator[tuple[int, int]]:
    """The port of one in front of either server."""
    servers = (replica.source.cluster, replica.target.cluster)
    with ExitStack() as stack:
        there, here = (
            stack.enter_context(pooler(workshop, server, {SUPERUSER: server.password})) for server in servers
        )
        yield there, here


@pytest.fixture
def bounced(replica: Replica, bouncers: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Replica:
    """A replica that reaches both databases through PgBouncer only."""
    for database, port, side in zip((replica.source, replica.target), bouncers, ("SOURCE", "TARGET"), strict=True):
        monkeypatch.setenv(f"XMIN_{side}_URL", url_by(port, database))
    return replica


def test_the_whole_passage_goes_through_a_transaction_pooler(bounced: Replica) -> None:
    watched = WatchedTable.create(bounced)
    for _ in range(2):
        for _ in range(2):
            (result,) = sync_tables(bounced.config(TABLE)).tables
            assert result.status == "success", result.error
            bounced.assert_equal(TABLE)
        watched.change()
    (found,) = verify_tables(bounced.config(TABLE)).tables
    assert (found.status, found.pending > 0) == ("match", True)


def test_a_crowd_behind_a_pooler_takes_turns_and_leaves_none_behind(bounced: Replica) -> None:
    WatchedTable.synced(bounced)
    results = []

    def sync() -> None:
        results.extend(sync_tables(bounced.config(TABLE)).tables)

    crowd = [threading.Thread(target=sync) for _ in range(4)]
    for running in crowd:
        running.start()
    for running in crowd:
        running.join()

    assert [result.error for result in results] == [None] * 4
    assert sum(result.rows_inserted for result in results) == 50
    bounced.assert_equal(TABLE)
    # The pooler keeps its sessions, so a turn that was not given back would stay.
    wait_until(lambda: bounced.target.fetch("SELECT FROM pg_locks WHERE locktype = 'advisory'") == [])


def test_settings_of_ours_do_not_stay_in_a_pooled_session(bounced: Replica, bouncers: tuple[int, int]) -> None:
    WatchedTable.create(bounced)
    assert sync_tables(bounced.config(TABLE)).ok

    for database, port in zip((bounced.source, bounced.target), bouncers, strict=True):
        with closing(psycopg2.connect(url_by(port, database))) as pooled, pooled.cursor() as cursor:
            cursor.execute("SELECT setting FROM pg_settings WHERE source = 'session' AND name <> 'client_encoding'")
            changed = [name for (name,) in cursor.fetchall()]
            cursor.execute("SHOW search_path")
            assert cursor.fetchone() == ('"$user", public',), changed


def test_a_sync_that_breaks_behind_a_pooler_begins_again(bounced: Replica) -> None:
    WatchedTable.synced(bounced)

    def terminate() -> None:
        bounced.target.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    with at_failpoint("after the stage", terminate):
        (result,) = sync_tables(bounced.config(TABLE)).tables

    assert result.status == "success", result.error
    bounced.assert_equal(TABLE)


@pytest.fixture(scope="session")
def with_tls(workshop: Workshop) -> Programs:
    """Programs of servers that have TLS and can be a target: the session's, else those of another version."""
    if _has_tls(workshop.target_programs):
        return workshop.target_programs
    for version in (17, 16, 15):
        for folder in candidates(version, workshop.programs.user, workshop.folder):
            if _has_tls(found := Programs(folder, workshop.programs.user)):
                return found
    pytest.skip("no server on this machine was built with TLS")


def _has_tls(programs: Programs) -> bool:
    # What a server without it says where ssl is on.
    return b"SSL is not supported by this build" not in (programs.bin_dir / "postgres").read_bytes()


@pytest.fixture
def encrypted(workshop: Workshop, with_tls: Programs, tmp_path: Path) -> Iterator[Replica]:
    """Two servers with a certificate, which take no connection without one."""
    if OPENSSL is None:
        pytest.skip("there is no openssl on this machine")
    source = workshop.programs if _has_tls(workshop.programs) else with_tls
    servers = [
        encrypted_server(workshop, f"encrypted-{secrets.token_hex(4)}", tmp_path, programs)
        for programs in (source, with_tls)
    ]
    replica = Replica(Database.create(servers[0]), Database.create(servers[1]), tmp_path / "spool", {"workers": 2})
    yield replica
    for server in servers:
        server.stop(immediate=True)


def encrypted_server(workshop: Workshop, name: str, folder: Path, programs: Programs) -> Cluster:
    server = workshop.cluster(name, programs)
    server.init({**SETTINGS, "ssl": "on"}, sync=False)
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    assert OPENSSL is not None
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    for made, wanted in ((key, "server.key"), (certificate, "server.crt")):
        copied = server.data_dir / wanted
        copied.touch(mode=0o600)
        copied.write_bytes(made.read_bytes())
        workshop.programs.user.own(copied)
    rules = server.data_dir / "pg_hba.conf"
    rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    server.start()
    return server


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_the_whole_passage_is_encrypted(
    encrypted: Replica, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    WatchedTable.create(encrypted)
    roots = tmp_path / "roots.crt"
    roots.write_text("".join(path.read_text() for path in tmp_path.glob("*.crt")))
    options = f"?sslmode={mode}" + (f"&sslrootcert={roots}" if mode == "verify-full" else "")
    monkeypatch.setenv("XMIN_SOURCE_URL", encrypted.source.url + options)
    monkeypatch.setenv("XMIN_TARGET_URL", encrypted.target.url + options)
    seen: list[bool] = []

    def look() -> None:
        for database in (encrypted.source, encrypted.target):
            seen.extend(
                ssl
                for (ssl,) in database.fetch(
                    "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)"
                    " WHERE a.application_name = 'xmin_assets' AND a.datname = current_database()"
                )
            )

    with at_failpoint("after the stage", look):
        (result,) = sync_tables(encrypted.config(TABLE)).tables

    assert result.status == "success", result.error
    assert seen
    assert all(seen)
    encrypted.assert_equal(TABLE)


def test_a_server_that_wants_encryption_refuses_a_plain_connection_in_words(
    encrypted: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    WatchedTable.create(encrypted)
    monkeypatch.setenv("XMIN_SOURCE_URL", encrypted.source.url + "?sslmode=disable")

    result = encrypted.try_sync(TABLE)

    assert result.status == "failed"
    assert "pg_hba.conf" in str(result.error)
