"""Triggers and functions of the target's users run in the merge, and an error says when it came from there."""

from __future__ import annotations

import pytest

from xmin_assets.replication.runtime.progress import Progress
from xmin_assets_tests.replica import Replica

AUDIT = (
    "CREATE TABLE audit_log (id int);"
    "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN INSERT INTO audit_log VALUES (new.id); RETURN new; END $$;"
    "CREATE TRIGGER audit AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION audit()"
)


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, v int); INSERT INTO items SELECT i, i FROM generate_series(1, 9) i"
    )
    replica.sync("public.items")
    replica.source.execute("UPDATE items SET v = 0 WHERE id = 1")
    return replica


def test_a_trigger_that_finds_nothing_without_a_search_path_is_named_with_the_way_out(items: Replica) -> None:
    items.target.execute(AUDIT)

    steps: list[Progress] = []
    result = items.try_sync("public.items", on_progress=steps.append)

    error = result.error or ""
    assert 'relation "audit_log" does not exist' in error
    assert "PL/pgSQL function public.audit() line 1" in error
    assert "ALTER FUNCTION ... SET search_path" in error
    assert not any(step.is_retry for step in steps)
    items.target.execute("ALTER FUNCTION audit() SET search_path = public")
    items.sync("public.items")
    items.assert_equal("public.items")
    assert items.target.fetch("SELECT id FROM audit_log") == [(1,)]


def test_what_a_trigger_raises_is_said_with_its_hint_and_where_it_was(items: Replica) -> None:
    items.target.execute(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not today' USING HINT = 'Come back tomorrow.', DETAIL = 'It is Sunday'; END $$;"
        "CREATE TRIGGER no BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION no()"
    )

    error = items.try_sync("public.items").error or ""

    assert "not today; It is Sunday. Come back tomorrow." in error
    assert "PL/pgSQL function public.no() line 1 at RAISE" in error
