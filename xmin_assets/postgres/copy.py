"""COPY between a server and files: PostgreSQL's own CSV, in which NULL and an empty string stay apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import psycopg2.extensions as ext
from psycopg2 import sql

BLOCK = 1 << 20
"""Bytes handed over at a time when a file is loaded."""


def copy_out(cursor: ext.cursor, query: sql.Composable, file: IO[bytes]) -> int:
    """Write the query's rows to the file as CSV; the number of rows, as the server counted them."""
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query)
    cursor.copy_expert(statement, file)
    return cursor.rowcount


def copy_in(cursor: ext.cursor, table: sql.Composable, columns: Sequence[str], file: IO[bytes]) -> int:
    """Load a CSV file into the table's columns; the number of rows, as the server counted them."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        table, sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    cursor.copy_expert(statement, file, BLOCK)
    return cursor.rowcount
