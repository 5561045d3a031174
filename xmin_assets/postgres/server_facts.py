"""Facts of a server that it may keep to itself: rented ones forbid functions, lack them, or have others in their place.

Whatever can be asked is asked by one statement. If the server refuses that, each fact is asked alone, and the absence
of a fact is NULL. What was refused is not asked again for a while, so a server that tells less costs no more. A fact
that is required has no such absence: without it nothing goes on, and `Lacking` says what to grant.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import errorcodes, sql
from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

from xmin_assets.postgres.error_translation import one_line

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
    """The functions that it calls, with their arguments, and the views that it reads, as GRANT names them."""
    purpose: str
    """What it is for, for people."""
    without: str
    """What is lost without it, for people."""
    required: bool = False
    """Whether nothing can be done without it."""

    @property
    def grant(self) -> str:
        """The statements that give it to a role."""
        functions = ", ".join(need for need in self.needs if "(" in need)
        views = ", ".join(need for need in self.needs if "(" not in need)
        grants = [f"GRANT EXECUTE ON FUNCTION {functions}"] if functions else []
        grants += [f"GRANT SELECT ON {views}"] if views else []
        return "; ".join(f"{grant} TO the role" for grant in grants)


class Lacking(Exception):
    """A server does not tell what nothing can be done without; the message says what, and how to grant it."""

    def __init__(self, fact: Fact) -> None:
        what = ", ".join(need.partition("(")[0] for need in fact.needs)
        super().__init__(
            f"the server refuses {what}, which {fact.purpose}; without it {fact.without}. Run there: {fact.grant}."
        )


class RefusedMeanwhile(Exception):
    """A server refuses a fact that it told a moment ago. Whoever asks again gets what it still tells."""


_refused: dict[tuple[object, ...], dict[str, float]] = {}
"""By server, database and role: which facts were refused, and when."""

_told: dict[tuple[object, ...], dict[str, float]] = {}
"""Likewise those that were told."""

_doubted: dict[tuple[object, ...], dict[str, float]] = {}
"""Likewise the last statement that was refused for something that was told before."""


def refused(cursor: ext.cursor) -> frozenset[str]:
    """Return the names of the facts that this server has refused lately."""
    return _lately(_refused, cursor)


def ask(
    cursor: ext.cursor,
    facts: Mapping[str, Fact],
    rest: sql.Composable,
    *,
    then: tuple[Mapping[str, Fact], sql.Composable] | None = None,
    require: bool = True,
) -> dict[str, Any]:
    """Ask for facts; those that the server refuses are None.

    Args:
        cursor: in a transaction, or in none.
        facts: by name.
        rest: what follows the list of a SELECT, and may begin with more of it, by a comma.
        then: some of the facts and a rest, for a second SELECT whose row `fetch` returns afterwards. With it the server
            is asked in any case whether it refuses anything, and without it only if it was not asked lately: that takes
            a round trip, which is saved where a second SELECT follows.
        require: whether what is required must be there.

    Returns:
        The row of the SELECT, by the names of its columns.

    Raises:
        Lacking: the server refuses a fact that is required.
        RefusedMeanwhile: it refuses what it told a moment ago.
    """
    # What is required is asked for each time: somebody who reads the error grants it, and tries again at once.
    known = refused(cursor) - {name for name, fact in facts.items() if fact.required}
    if then is None and {*facts} <= known | _lately(_told, cursor):
        statement = _select(facts, known, rest)
        with refused_meanwhile(cursor, statement.as_string(cursor)):
            cursor.execute(statement)
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
        if require:
            _require(facts, known)
        cursor.execute(_select(facts, known, rest))
    row = fetch(cursor)
    told = {*facts} - known
    _told.setdefault(_server(cursor), {}).update(dict.fromkeys(told, time.monotonic()))
    for name in told:
        _refused.get(_server(cursor), {}).pop(name, None)
    if then is not None:
        cursor.execute(end + _select(then[0], known, then[1]))
    elif in_transaction:
        cursor.execute(end)
    return row


@contextmanager
def refused_meanwhile(cursor: ext.cursor, statement: str) -> Iterator[None]:
    """Let a server that refuses what it told a moment ago be asked anew, once: it may refuse something else.

    Args:
        cursor: in a transaction, which ends with the refusal.
        statement: which is run.

    Raises:
        RefusedMeanwhile: the server refuses it.
    """
    doubted = statement in _lately(_doubted, cursor)
    try:
        yield
    except psycopg2.Error as error:
        if doubted or not is_refusal(error):
            raise
        forget(cursor)
        _doubted[_server(cursor)] = {statement: time.monotonic()}
        raise RefusedMeanwhile(one_line(error)) from error


def _require(facts: Mapping[str, Fact], missing: frozenset[str]) -> None:
    for name, fact in facts.items():
        if fact.required and name in missing:
            raise Lacking(fact)


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
    return code is not None and code[:2] not in _NOT_THE_FACT and code != errorcodes.LOCK_NOT_AVAILABLE


def _server(cursor: ext.cursor) -> tuple[object, ...]:
    info = cursor.connection.info
    return info.host, info.port, info.dbname, info.user


def _lately(asked: Mapping[tuple[object, ...], Mapping[str, float]], cursor: ext.cursor) -> frozenset[str]:
    now = time.monotonic()
    known = list(asked.get(_server(cursor), {}).items())  # at once: other threads ask, too
    return frozenset(name for name, at in known if now - at < ASK_AGAIN_S)


def forget(cursor: ext.cursor | None = None) -> None:
    """Forget what the cursor's server has told and refused, or what all have."""
    for asked in (_told, _refused, _doubted):
        if cursor is None:
            asked.clear()
        else:
            asked.pop(_server(cursor), None)
