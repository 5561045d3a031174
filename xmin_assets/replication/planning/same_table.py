"""Whether source and target are one table, though a server may keep to itself which one it is.

Two roles may be told different things by one server, so a system identifier that one side hides proves nothing. What
both sides share then is the database's advisory locks.
"""

from __future__ import annotations

import secrets

import psycopg2
import psycopg2.extensions as ext

from xmin_assets.config import TableConfig
from xmin_assets.errors import ConfigError, UnsupportedServer
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.postgres.server import FACTS, Server
from xmin_assets.postgres.server_facts import is_refusal
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.manifests.state import State

_TRY_LOCK = """
SELECT pg_catalog.pg_try_advisory_xact_lock(%(room)s, %(key)s) AS taken
"""


def require_another_table(
    table: TableConfig,
    source: tuple[Database, Server, int],
    target: tuple[Database, Server, int | None],
    state: State | None,
) -> None:
    """Refuse a table that is its own target.

    Args:
        table: the table's configuration.
        source: the database, its server, and the table's oid.
        target: likewise; without an oid where there is no such table yet.
        state: of the last sync.

    Raises:
        ConfigError: it is.
        UnsupportedServer: nothing shows that it is not.
        XminAssetsError: a side failed.
    """
    (there, its_server, its_oid), (here, server, oid) = source, target
    if (its_server.database_oid, its_oid) != (server.database_oid, oid):
        return
    hidden = "system_identifier" in {*its_server.missing, *server.missing}
    if not hidden and its_server.system_identifier != server.system_identifier:
        return
    if not hidden or (shared := _share_locks(table, there, here)):
        raise ConfigError(f"{table.label}: source and target are the same table. Name another target.")
    # A standby has locks of its own, and all its tables are its primary's. What was copied from these oids before was
    # judged when there was no such table yet.
    known = state is not None and (state.identity.database_oid, state.identity.relation_oid, state.target_oid) == (
        its_server.database_oid,
        its_oid,
        oid,
    )
    if (shared is None or its_server.in_recovery) and not known:
        raise UnsupportedServer(
            f"{table.label}: source and target have the same oids, and one of them does not tell its system "
            f"identifier, so they may be the same table. Run there: {FACTS['system_identifier'].grant}."
        )


def _share_locks(table: TableConfig, source: Database, target: Database) -> bool | None:
    """Return whether a lock of the target is one of the source, too; None where one of them does not lend it."""
    action = f"{table.label}: looking whether source and target are the same table"
    with (
        transaction_on(target, TransactionMode.READ, action) as here,
        transaction_on(source, TransactionMode.READ, action) as there,
    ):
        lock = {"room": secrets.randbelow(2**31), "key": secrets.randbelow(2**31)}
        taken = [_try_lock(cursor, lock) for cursor in (here, there)]
    return None if None in taken else taken != [True, True]


def _try_lock(cursor: ext.cursor, lock: dict[str, int]) -> bool | None:
    try:
        cursor.execute("SAVEPOINT lock")
        cursor.execute(_TRY_LOCK, lock)
        return fetch_value(cursor, bool)
    except psycopg2.Error as error:
        if not is_refusal(error):
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT lock")
        return None
