"""Names and conditions that look like SQL: what they say is data, or refused; no statement comes of them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from xmin_assets.config import parse_config
from xmin_assets.errors import ConfigError, XminAssetsError
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets_tests.replica import Replica

CANARY = "CREATE TABLE canary (id int PRIMARY KEY); INSERT INTO canary VALUES (1)"
ITEMS = "CREATE TABLE items (id int PRIMARY KEY, note text); INSERT INTO items VALUES (1, 'a'), (2, 'b')"

# Pieces that open, close and hide what the others say, and what must not be done.
PIECES = [
    *("'", "''", '"', "E'", "\\", "\\'", "$$", "$a$", "$", "(", ")", ";", "--", "\n", "\r", "/*", "*/", " ", "\t"),
    *("true", "id > 1", " OR ", " AND ", "note", "1", "U&'", "B'", "e", "a", "%", "%s", "{}", "{0}", "\u2028", "ä"),
    *("DELETE FROM canary", "; DELETE FROM canary; ", ") TO STDOUT; COMMIT; DELETE FROM canary; --"),
    *("COMMIT", "; COMMIT; BEGIN; DELETE FROM canary; COMMIT; --", "SELECT", "UNION SELECT"),
]
names = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)


@pytest.fixture
def watched(replica: Replica) -> Replica:
    """A table, and one in each database that nobody has any business with."""
    replica.source.execute(ITEMS)
    for database in (replica.source, replica.target):
        database.execute(CANARY)
    return replica


def assert_untouched(replica: Replica) -> None:
    for database in (replica.source, replica.target):
        assert database.fetch("SELECT id FROM canary") == [(1,)]


@given(where=st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_where_does_anything_but_choose_rows(watched: Replica, where: str) -> None:
    try:
        parse_config({"tables": [{"source": "public.items", "where": where}]})
    except ConfigError:
        return
    plan = watched.plan({"source": "public.items", "where": where})
    assert_untouched(watched)
    if plan.snapshot is None:
        assert "the source refuses the where clause: " in str(plan.error)
        return
    with watched.stations({"source": "public.items", "where": where}) as stations, suppress(XminAssetsError):
        stations.extract(plan.snapshot, probe=False)
    assert_untouched(watched)


@pytest.mark.parametrize(
    "where",
    [
        "true; DELETE FROM canary",
        "true) TO STDOUT; COMMIT; DELETE FROM canary; --",
        "E'a'\n'\\''; DELETE FROM canary; --' IS NOT NULL",
    ],
)
def test_a_second_statement_in_a_where_is_refused_before_anything_is_connected(watched: Replica, where: str) -> None:
    with pytest.raises(ConfigError, match="where must be one boolean expression"):
        watched.config({"source": "public.items", "where": where})


def test_a_function_in_a_where_cannot_write(watched: Replica) -> None:
    watched.source.execute(
        "CREATE FUNCTION public.wipe() RETURNS bool LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM public.canary; RETURN true; END $$"
    )

    result = watched.try_sync({"source": "public.items", "where": "public.wipe()"})

    assert result.status == "failed"
    assert "read-only transaction" in str(result.error)
    assert_untouched(watched)


@given(name=names, column=names)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_of_any_name_is_copied_and_no_other_is_touched(watched: Replica, name: str, column: str) -> None:
    table = QualifiedName("public", name.encode()[:60].decode(errors="ignore"))
    if table.name in ("items", "canary"):
        return
    for database in (watched.source, watched.target):
        database.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table.sql))
    columns = sql.SQL("{} int PRIMARY KEY").format(sql.Identifier(column.encode()[:60].decode(errors="ignore")))
    watched.source.execute(sql.SQL("CREATE TABLE {} ({})").format(table.sql, columns))
    watched.source.execute(sql.SQL("INSERT INTO {} VALUES (1), (2)").format(table.sql))
    written = ".".join('"' + part.replace('"', '""') + '"' for part in ("public", table.name))

    result = watched.try_sync({"source": written, "adopt": True})
    assert result.status == "success", result.error
    watched.source.execute(sql.SQL("DELETE FROM {}").format(table.sql))
    watched.sync({"source": written, "max_delete_share": 1})

    assert watched.target.fetch(sql.SQL("SELECT count(*) FROM {}").format(table.sql)) == [(0,)]
    assert_untouched(watched)
