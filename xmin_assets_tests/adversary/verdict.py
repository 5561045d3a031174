"""Whether what a sync has left, and what verify says about it, is what the oracle's picture demands."""

from __future__ import annotations

from collections import Counter

import psycopg2

from xmin_assets.replication.manifests.report import TableResult
from xmin_assets.replication.verification.verify import TableVerification
from xmin_assets_tests.adversary.copies import Copy
from xmin_assets_tests.adversary.oracle import KEY, Oracle, Picture, Row

SHOWN = 4


class Wrong(Exception):
    """The engine has done what it must not."""


def judge_sync(copy: Copy, seen: Picture, oracle: Oracle, result: TableResult, began: float, ended: float) -> None:
    """Compare the target with what the source was under the sync's snapshot.

    Raises:
        Wrong: they differ.
    """
    try:
        rows = oracle.target(copy.target, seen.columns, copy.not_deleted)
    except psycopg2.Error as error:
        raise Wrong(f"{copy.target} cannot be read as the source can: {error}") from None
    complete = result.mode == "full_sync" or copy.is_due(began)
    here, there = Counter(rows), seen.counted
    said = f"{copy.target} after a sync ({result.mode}: {result.reason}; {result.path})"
    if missing := there - here:
        raise Wrong(f"{said} lacks or has otherwise {_some(missing)}; beyond the source it has {_some(here - there)}")
    extra = here - there
    if extra and complete and copy.deletes != "ignore":
        raise Wrong(f"{said} has rows that the source has not: {_some(extra)}")
    _judge_left(copy, seen, extra, said)
    looked = complete or result.rows_deleted > 0
    copy.note_look(began, ended, certain=looked)
    # Rows that are only marked as deleted are in the table, and back if marks mean nothing any more.
    _note(copy, seen, forget=complete and copy.deletes == "hard")


def _judge_left(copy: Copy, seen: Picture, extra: Counter[Row], said: str) -> None:
    """Rows that are left in the target must have been the source's once, with those values, and not be there now."""
    places = [seen.columns.index(name) for name in KEY]
    now = seen.by_key()
    for row in extra:
        key = tuple(row[place] for place in places)
        if key in now:
            raise Wrong(f"{said} has a second row of a key: {row}")
        if key not in copy.once:
            raise Wrong(f"{said} has a row that no sync has seen at the source: {row}")


def _note(copy: Copy, seen: Picture, *, forget: bool) -> None:
    if forget:
        copy.once = {}
    copy.columns = seen.columns
    for key, row in seen.by_key().items():
        copy.once.setdefault(key, set()).add(row)


def judge_verify(copy: Copy, seen: Picture, oracle: Oracle, told: TableVerification, *, exactly: bool) -> None:
    """Compare what verify says with what there is, and `exactly` so if nothing has happened meanwhile.

    Raises:
        Wrong: it calls an equal target different, or passes over a difference.
    """
    try:
        now = copy.picture(oracle)
        rows = oracle.target(copy.target, seen.columns, copy.not_deleted)
    except psycopg2.Error:
        return  # altered since, and not to be compared as it is
    if now.shape != seen.shape:
        return
    there, here = now.counted, Counter(rows)
    places = [seen.columns.index(name) for name in KEY]

    def keys(some: Counter[Row]) -> set[Row]:
        return {tuple(row[place] for place in places) for row in some}

    left = keys(here - there) - keys(there)
    differing = len(keys(there - here) | keys(here - there))
    if copy.deletes == "ignore":
        differing -= len(left)
    what = f"verify of {copy.target} says {told.status}, {told.missing} missing, {told.extra} extra, "
    what += f"{told.different} different, {told.pending} pending ({told.note})"
    if told.status != "match":
        raise Wrong(f"{what}: of a copy that was equal; examples {told.examples}")
    if exactly and told.pending != differing and not now.repeats_keys:
        raise Wrong(f"{what}: {differing} rows differ: {_some(there - here)} against {_some(here - there)}")


def _some(rows: Counter[Row]) -> str:
    shown = ", ".join(str(row) for row in list(rows)[:SHOWN])
    return f"{rows.total()} rows ({shown}{', ...' if len(rows) > SHOWN else ''})"
