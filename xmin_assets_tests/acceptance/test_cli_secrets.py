"""Passwords are in nothing that the command prints or leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from psycopg2 import sql
from psycopg2.extensions import parse_dsn

from xmin_assets_tests.acceptance.conftest import Cli
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.waiting import wait_until

SECRET = "p@ss/w0rd:with%signs and a space"


@pytest.fixture
def role(source_db: Database) -> Iterator[str]:
    """A role of the source whose password needs escapes in a URL."""
    name = f"reader_of_{source_db.name}"
    source_db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(SECRET)))
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    source_db.execute("INSERT INTO orders VALUES (1)")
    source_db.execute(sql.SQL("GRANT SELECT ON orders TO {}").format(sql.Identifier(name)))
    yield name
    source_db.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    source_db.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def assert_hidden(text: str) -> None:
    assert SECRET not in text
    assert quote(SECRET, safe="") not in text
    assert quote(SECRET) not in text


@pytest.mark.parametrize("command", ["sync", "plan --json", "status", "resync --all", "clean", "sync --json"])
def test_no_command_prints_a_password(cli: Cli, source_db: Database, role: str, command: str) -> None:
    cli.configure("public.orders", "public.missing")

    run = cli(*command.split(), "--debug", XMIN_SOURCE_URL=source_db.url_as(role, SECRET))

    assert run.status in (0, 1)
    assert_hidden(run.stdout + run.stderr)


@dataclass(frozen=True)
class Way:
    """A way to tell libpq a password."""

    url: str
    environment: dict[str, str]


def ways(folder: Path, database: Database, role: str, secret: str) -> dict[str, Way]:
    parts = parse_dsn(database.url)
    address = f"host={parts['host']} port={parts['port']} dbname={parts['dbname']}"
    bare = f"{address} user={role}"
    quoted = "'" + secret.replace("\\", "\\\\").replace("'", "\\'") + "'"
    passfile, services = folder / "passfile", folder / "services"
    passfile.write_text(f"*:*:*:{role}:{secret.replace(':', chr(92) + ':')}\n")
    passfile.chmod(0o600)
    services.write_text("\n".join(["[app]", *address.split(), f"user={role}", f"password={secret}", ""]))
    return {
        "url": Way(database.url_as(role, secret), {}),
        "keywords": Way(f"{bare} password={quoted}", {}),
        "PGPASSWORD": Way(bare, {"PGPASSWORD": secret}),
        "passfile": Way(bare, {"PGPASSFILE": str(passfile)}),
        "service": Way("service=app", {"PGSERVICEFILE": str(services)}),
    }


@pytest.mark.parametrize("way", ["url", "keywords", "PGPASSWORD", "passfile", "service"])
@pytest.mark.parametrize("right", [True, False])
def test_however_it_is_told_a_password_is_shown_nowhere(
    cli: Cli, source_db: Database, role: str, tmp_path: Path, way: str, right: bool
) -> None:
    secret = SECRET if right else SECRET + "!"
    cli.configure("public.orders")
    if not right:
        source_db.execute("INSERT INTO orders VALUES (2)")
    told = ways(tmp_path, source_db, role, secret)[way]
    assert cli.environment.pop("XMIN_SOURCE_URL")
    cli.environment |= told.environment
    if way == "PGPASSWORD":
        # It would go to both servers.
        parts = parse_dsn(cli.environment["XMIN_TARGET_URL"])
        cli.environment["PGPASSFILE"] = "/nowhere"
        cli.environment["XMIN_TARGET_URL"] = " ".join(f"{name}={value}" for name, value in parts.items())

    for command in ("sync --debug", "sync --json", "plan --debug", "status"):
        run = cli(*command.split(), XMIN_SOURCE_URL=told.url)

        assert_hidden(run.stdout + run.stderr)
        if "sync" in command:
            assert run.status == (0 if right else 1), run.stderr


def test_neither_the_processes_nor_the_servers_show_a_password(cli: Cli, source_db: Database, role: str) -> None:
    cli.write_config('{"tables": [{"source": "public.orders", "where": "pg_sleep(1) IS NOT NULL"}]}')
    cli.environment["XMIN_SOURCE_URL"] = source_db.url_as(role, SECRET)
    with cli.start("sync", "--debug") as running:
        wait_until(
            lambda: (
                source_db.fetch("SELECT FROM pg_stat_activity WHERE usename = %s AND query LIKE '%%sleep%%'", (role,))
                != []
            )
        )
        shown = [*running.args, *psutil.Process(running.pid).cmdline()]
        shown += [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
        shown += [str(row) for row in source_db.fetch("SELECT a::text FROM pg_stat_activity a")]
        stdout, stderr = running.communicate(timeout=30)

    assert running.returncode == 0
    assert_hidden("\n".join(map(str, shown)) + stdout + stderr + source_db.cluster.log.read_text())


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_no_file_is_open_to_others_even_for_a_moment(cli: Cli, source_db: Database, tmp_path: Path, umask: int) -> None:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY, filler text)")
    source_db.execute("INSERT INTO orders SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i")
    cli.configure("public.orders")
    cli.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    (tmp_path / "cache").mkdir(mode=0o700)
    seen: dict[Path, int] = {}

    with cli.start("sync", preexec_fn=lambda: os.umask(umask)) as running:
        while running.poll() is None:
            for root in (tmp_path / "spool", tmp_path / "cache/xmin_assets"):
                with suppress(FileNotFoundError):  # it is looked at while it comes and goes
                    for path in (root, *root.rglob("*")):
                        seen[path] = max(seen.get(path, 0), path.stat().st_mode & 0o777)

    assert running.returncode == 0
    assert [path for path in seen if path.name.endswith(".csv")]
    assert {path: oct(mode) for path, mode in seen.items() if mode & 0o077} == {}


def test_a_password_of_the_configuration_file_is_hidden_too(cli: Cli, source_db: Database, role: str) -> None:
    del cli.environment["XMIN_SOURCE_URL"]
    wrong = SECRET + "!"
    cli.write_config(f"source: '{source_db.url_as(role, wrong)}'\ntables: [public.orders]\n")

    run = cli("sync", "--debug")

    assert run.status == 1
    assert "password authentication failed" in run.stderr
    assert_hidden(run.stdout + run.stderr)


def test_a_mistake_beside_a_password_does_not_show_it(cli: Cli) -> None:
    cli.write_config("source: 'postgresql://user:hunter2@localhost/db\ntables: [public.orders]\n")
    broken_yaml = cli("sync", "--debug")
    cli.write_config("source: ['postgresql://user:hunter2@localhost/db']\ntables: [public.orders]\n")
    wrong_type = cli("sync", "--debug")

    for run in (broken_yaml, wrong_type):
        assert run.status == 2
        assert "hunter2" not in run.stdout + run.stderr


def test_no_password_stays_in_the_spool(cli: Cli, source_db: Database, role: str) -> None:
    cli.configure("public.orders")

    assert cli("sync", XMIN_SOURCE_URL=source_db.url_as(role, SECRET)).status == 0

    for file in Path(cli.environment["XMIN_SPOOL"]).rglob("*"):
        if file.is_file():
            assert_hidden(file.read_text())
