"""The roles and databases of the demo, with no more rights than replication needs.

On the source, ``app`` owns the tables and changes them, ``xmin_reader`` may only read them. On the target,
``xmin_writer`` owns the database that is copied into and ``dagster`` the one that Dagster keeps its runs in.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import encrypt_password

from xmin_assets.demo.cluster import Cluster
from xmin_assets.replication.changed_blocks.prerequisites import BLOCK_INFO, MIN_VERSION


def prepare_source(source: Cluster, passwords: Mapping[str, str]) -> None:
    """Make what is missing: database ``source`` of ``app``, ``xmin_reader`` with SELECT alone, and WAL summaries.

    By these, and by the WAL since the last one, syncs read the blocks that changed and no others.
    """
    with closing(source.connect()) as connected, connected.cursor() as cursor:
        for role in ("app", "xmin_reader"):
            _ensure_role(cursor, role, passwords[role])
        _ensure_database(cursor, "source", owner="app")
        cursor.execute("GRANT CONNECT ON DATABASE source TO xmin_reader")
    with closing(source.connect("source")) as connected, connected.cursor() as cursor:
        cursor.execute("GRANT USAGE ON SCHEMA public TO xmin_reader")
        cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO xmin_reader")
        cursor.execute("ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES TO xmin_reader")
        if connected.server_version // 10000 >= MIN_VERSION:
            cursor.execute("ALTER SYSTEM SET summarize_wal = on")
            cursor.execute("SELECT pg_reload_conf()")
            # A server may have been built without its contributed modules.
            cursor.execute("SELECT FROM pg_available_extensions WHERE name = 'pg_walinspect'")
            if cursor.fetchone() is not None:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
                cursor.execute(f"GRANT EXECUTE ON FUNCTION {BLOCK_INFO} TO xmin_reader")


def prepare_target(target: Cluster, passwords: Mapping[str, str]) -> None:
    """Make what is missing: ``target`` of ``xmin_writer``, and ``dagster`` of ``dagster``."""
    with closing(target.connect()) as connected, connected.cursor() as cursor:
        for role, database in (("xmin_writer", "target"), ("dagster", "dagster")):
            _ensure_role(cursor, role, passwords[role])
            _ensure_database(cursor, database, owner=role)


def _ensure_role(cursor: Cursor, role: str, password: str) -> None:
    cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,))
    if cursor.fetchone() is None:
        # Hashed here, so that the password stands in no statement and no log of the server.
        verifier = encrypt_password(password, role, scope=cursor, algorithm="scram-sha-256")
        cursor.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(sql.Identifier(role)), (verifier,))


def _ensure_database(cursor: Cursor, database: str, *, owner: str) -> None:
    name = sql.Identifier(database)
    cursor.execute("SELECT FROM pg_database WHERE datname = %s", (database,))
    if cursor.fetchone() is None:
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, sql.Identifier(owner)))
    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
