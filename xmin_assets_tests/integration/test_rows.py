"""Rows by the names of their columns; none where one is expected is an error."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2.extensions as ext
import pytest

from xmin_assets.errors import ServerError
from xmin_assets.postgres.rows import fetch_as, fetch_one_as, fetch_value, fetch_value_or_none
from xmin_assets_tests.clusters import Database


@dataclass(frozen=True)
class Pair:
    """Two columns, in another order than the statements return them."""

    b: str
    a: int


@pytest.fixture
def cursor(source_db: Database) -> ext.cursor:
    return source_db.connect().cursor()


def test_a_value_is_of_the_kind_that_was_asked_for(cursor: ext.cursor) -> None:
    cursor.execute("SELECT 12345678901234567890::numeric")
    found = fetch_value(cursor, int)

    assert (found, type(found)) == (12345678901234567890, int)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("SELECT 1 AS n WHERE false", "returns n gave 0 rows"),
        ("SELECT n FROM generate_series(1, 2) AS n", "returns n gave 2 rows"),
        ("SELECT NULL::int8 AS n", "returns n gave NULL"),
    ],
)
def test_what_is_not_one_value_is_no_value(cursor: ext.cursor, statement: str, complaint: str) -> None:
    cursor.execute(statement)

    with pytest.raises(ServerError, match=complaint):
        fetch_value(cursor, int)


def test_null_may_be_expected_but_a_missing_row_may_not(cursor: ext.cursor) -> None:
    cursor.execute("SELECT NULL::int8")
    assert fetch_value_or_none(cursor, int) is None

    cursor.execute("SELECT 1 WHERE false")
    with pytest.raises(ServerError, match="0 rows"):
        fetch_value_or_none(cursor, int)


def test_rows_are_mapped_by_the_names_of_their_columns(cursor: ext.cursor) -> None:
    cursor.execute("SELECT n AS a, 'x' || n AS b FROM generate_series(1, 2) AS n ORDER BY n")
    assert fetch_as(cursor, Pair) == [Pair("x1", 1), Pair("x2", 2)]

    cursor.execute("SELECT 7 AS a, 'y' AS b")
    assert fetch_one_as(cursor, Pair) == Pair("y", 7)


def test_the_only_row_is_no_first_row_and_no_missing_one(cursor: ext.cursor) -> None:
    for rows in (0, 2):
        cursor.execute("SELECT 7 AS a, 'y' AS b FROM generate_series(1, %s)", (rows,))
        with pytest.raises(ServerError, match=f"returns a, b gave {rows} rows"):
            fetch_one_as(cursor, Pair)
