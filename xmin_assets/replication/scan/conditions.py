"""The conditions of a scan, and what it reads from."""

from __future__ import annotations

from psycopg2 import sql

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.scan.ranges import (
    CtidRange,
)


def block_key(filenode: int, block: int) -> int:
    """Return what a target keeps of a row's place: the file and the block, in the bits of an int8."""
    bits = filenode << 32 | block
    return bits - (1 << 64) if bits >= 1 << 63 else bits


def block_of_row(ctid_range: CtidRange) -> sql.Composable:
    """Build the `block_key` of a row. PostgreSQL up to 18 shows a ctid's block only as text."""
    file = (
        sql.Literal(ctid_range.leaf.relfilenode)
        if ctid_range.leaf
        else sql.SQL("pg_catalog.pg_relation_filenode(tableoid)")
    )
    return sql.SQL("(({}::int8 << 32) | (ctid::text::point)[0]::int8)").format(file)


def read_lock(table: QualifiedName, kind: str) -> sql.Composed:
    """Build the statement that keeps a table from being emptied or rewritten while it is read.

    Args:
        table: a table or view.
        kind: its pg_class.relkind.
    """
    if kind == "m":
        # LOCK TABLE takes no materialized view; reading nothing of it holds the same lock until the transaction ends.
        # REFRESH writes frozen rows, which every snapshot sees (refresh_matview_datafill() in matview.c).
        return sql.SQL("SELECT FROM {} LIMIT 0").format(table.sql)
    return sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table.sql)


def read_from(ctid_range: CtidRange, table: QualifiedName) -> sql.Composable:
    """Build what a range is read from: its leaf alone, or the table under its own name."""
    return table.sql if ctid_range.leaf is None else sql.SQL("ONLY {}").format(ctid_range.leaf.name.sql)


def within(ctid_range: CtidRange) -> sql.Composable | None:
    """Build the condition that a row is in the range; None if all are."""
    if ctid_range.leaf is None:
        return None
    if ctid_range.ends:
        return sql.SQL("ctid >= {} AND ctid < {}").format(*ctid_range.ends)
    return between(ctid_range.start, ctid_range.end)


def between(start: int, end: int | None) -> sql.Composable:
    """Build the condition that a row is in the block `start` or a later one, and before `end` if that is a block."""
    low = sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({start},0)"))
    if end is None:
        return low
    return sql.SQL("{} AND ctid < {}::tid").format(low, sql.Literal(f"({end},0)"))


def where_condition(where: str | None) -> sql.Composable | None:
    """Build a configured ``where`` as a condition; None for none."""
    # The line break keeps a comment at the end of the clause from swallowing the bracket.
    return sql.SQL("({}\n)").format(sql.SQL(where)) if where else None


def all_of(*conditions: sql.Composable | None) -> sql.Composable:
    """Build the conditions joined by AND, those that are None left out; true if all are."""
    present = [condition for condition in conditions if condition is not None]
    return sql.SQL(" AND ").join(present) if present else sql.SQL("true")
