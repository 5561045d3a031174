"""PgBouncer in front of a server."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg2
import pytest

from xmin_assets.demo.cluster import HOST, Cluster, free_port
from xmin_assets_tests.clusters import Workshop
from xmin_assets_tests.waiting import wait_until

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")

INI = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
server_login_retry = 0.2
logfile = {folder}/log
pidfile = {folder}/pid
"""


@contextmanager
def pooler(
    workshop: Workshop, server: Cluster, passwords: Mapping[str, str], mode: str = "transaction"
) -> Iterator[int]:
    """Start one for the roles whose passwords are given, which gives a session for a transaction; its port."""
    if PGBOUNCER is None:
        pytest.skip("there is no pgbouncer on this machine")
    user, port = workshop.programs.user, free_port()
    folder = workshop.folder / f"bouncer-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    (folder / "users.txt").write_text("".join(f'"{role}" "{secret}"\n' for role, secret in passwords.items()))
    (folder / "ini").write_text(
        INI.format(host=HOST, server_port=server.port, port=port, folder=folder, mode=mode, size=12)
    )
    for path in (folder / "users.txt", folder / "ini", folder):
        user.own(path)
    rights = {"user": user.uid, "group": user.gid, "extra_groups": []} if user.drops_rights else {}
    process = subprocess.Popen(
        [PGBOUNCER, "-q", str(folder / "ini")],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **rights,  # type: ignore[call-overload]
    )
    role, password = next(iter(passwords.items()))
    try:
        wait_until(lambda: _answers(by_port(server.url("postgres", role, password), port)))
        yield port
    finally:
        process.terminate()
        process.wait()


def by_port(url: str, port: int) -> str:
    """The URL, by another port than its server's own."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{port}")).geturl()


def _answers(url: str) -> bool:
    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True
