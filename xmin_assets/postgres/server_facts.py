"""Facts of a server that it may keep to itself: rented ones forbid functions, lack them, or have others in their place.

Whatever can be asked is asked by one statement. If the server refuses that, each fact is asked alone, and the absence
of a fact is NULL. What was refused is not asked again for a while, so a server that tells less costs no more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import errorcodes, sql
from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

ASK_AGAIN_S = 60.0
"""Seconds for which a refusal is believed: somebody may grant what is missing."""

# Of any other error nobody knows that it comes from the function.
_NOT_THE_FACT = {
    errorcodes.CLASS_CONNECTION_EXCEPTION,
    errorcodes.CLASS_OPERATOR_INTERVENTION,
    errorcodes.CLASS_INSUFFICIENT_RESOURCES,
    errorcodes.CLASS_TRANSACTION_ROLLBACK,
}

_SAVEPOINT = sql.SQL("SAVEPOINT xmin_assets_facts; ")
_RELEASE = sql.SQL("RELEASE SAVEPOINT xmin_assets_facts; ")
_ROLLBACK = "ROLLBACK TO SAVEPOINT xmin_assets_facts"


@dataclass(frozen=True)
class Fact:
    """Something that a server may refuse to tell."""

    name: str
    expression: str
    """SQL that gives it, as one value."""
    needs: tuple[str, ...]
    """The functions that it calls, with their arguments, as GRANT names them."""
    purpose: str
    """What it is for, for people."""
    without: str
    """What is lost without it, for people."""

    @property
    def grant(self) -> str:
        """The statement that gives it to a role."""
        return f"GRANT EXECUTE ON FUNCTION {', '.join(self.needs)} TO the role"


_refused: dict[tuple[object, ...], dict[str, float]] = {}
"""By server, database and role: which facts were refused, and when."""

_told: dict[tuple[object, ...], dict[str, float]] = {}
"""Likewise those that were told."""


def refused(cursor: ext.cursor) -> frozenset[str]:
    """Return the names of the facts that this server has refused lately."""
    return _lately(_refused, cursor)


def ask(
    cursor: ext.cursor,
    facts: Mapping[str, Fact],
    rest: sql.Composable,
    *,
    then: tuple[Mapping[str, Fact], sql.Composable] | None = None,
) -> dict[str, Any]:
    """Ask for facts; those that the server refuses are None.

    Args:
        cursor: in a transaction, or in none.
        facts: by name.
        rest: what follows the list of a SELECT, and may begin with more of it, by a comma.
        then: some of the facts and a rest, for a second SELECT whose row `fetch` returns afterwards. With it the server
            is asked in any case whether it refuses anything, and without it only if it was not asked lately: that takes
            a round trip, which is saved where a second SELECT follows.

    Returns:
        The row of the SELECT, by the names of its columns.
    """
    known = refused(cursor)
    if then is None and {*facts} <= known | _lately(_told, cursor):
        cursor.execute(_select(facts, known, rest))
        return fetch(cursor)
    in_transaction = cursor.connection.info.transaction_status == TRANSACTION_STATUS_INTRANS
    begin, end = (_SAVEPOINT, _RELEASE) if in_transaction else (sql.SQL(""), sql.SQL(""))
    try:
        cursor.execute(begin + _select(facts, known, rest))
    except psycopg2.Error as error:
        if not is_refusal(error):
            raise
        if in_transaction:
            cursor.execute(_ROLLBACK)
        known = known | _probe(cursor, facts, known, in_transaction=in_transaction)
        cursor.execute(_select(facts, known, rest))
    row = fetch(cursor)
    _told.setdefault(_server(cursor), {}).update(dict.fromkeys({*facts} - known, time.monotonic()))
    if then is not None:
        cursor.execute(end + _select(then[0], known, then[1]))
    elif in_transaction:
        cursor.execute(end)
    return row


def fetch(cursor: ext.cursor) -> dict[str, Any]:
    """Return the only row of the last statement, by the names of its columns."""
    (row,) = cursor.fetchall()
    return dict(zip((column.name for column in cursor.description or ()), row, strict=True))


def _probe(
    cursor: ext.cursor, facts: Mapping[str, Fact], known: frozenset[str], *, in_transaction: bool
) -> frozenset[str]:
    """Ask for each fact alone, and remember which ones the server refuses."""
    found = set[str]()
    for name, fact in facts.items():
        if name in known:
            continue
        try:
            cursor.execute(sql.SQL("SELECT {}").format(sql.SQL(fact.expression)))
        except psycopg2.Error as error:
            if not is_refusal(error):
                raise
            found.add(name)
            if in_transaction:
                cursor.execute(_ROLLBACK)
    _refused.setdefault(_server(cursor), {}).update(dict.fromkeys(found, time.monotonic()))
    return frozenset(found)


def _select(facts: Mapping[str, Fact], missing: frozenset[str], rest: sql.Composable) -> sql.Composed:
    listed = [
        sql.SQL("{} AS {}").format(
            sql.SQL("NULL") if name in missing else sql.SQL(fact.expression), sql.Identifier(name)
        )
        for name, fact in facts.items()
    ]
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(listed)) + rest


def is_refusal(error: BaseException) -> bool:
    """Return whether a server refuses a statement, or an error of ours comes from that; and not just now."""
    cause = error if isinstance(error, psycopg2.Error) else error.__cause__
    code = cause.pgcode if isinstance(cause, psycopg2.Error) else None
    return code is not None and code[:2] not in _NOT_THE_FACT


def _server(cursor: ext.cursor) -> tuple[object, ...]:
    info = cursor.connection.info
    return info.host, info.port, info.dbname, info.user


def _lately(asked: Mapping[tuple[object, ...], Mapping[str, float]], cursor: ext.cursor) -> frozenset[str]:
    now = time.monotonic()
    return frozenset(name for name, at in asked.get(_server(cursor), {}).items() if now - at < ASK_AGAIN_S)


def forget() -> None:
    """Forget what servers have told and refused."""
    _told.clear()
    _refused.clear()
