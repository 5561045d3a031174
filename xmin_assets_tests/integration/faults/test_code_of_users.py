"""Triggers and functions of the target's users run in the merge, and an error says when it came from there."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from xmin_assets.replication.runtime.progress import Progress
from xmin_assets.replication.sync import plan_tables
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


SWALLOW = (
    "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
    "CREATE TRIGGER swallow BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION swallow()"
)
CHANGE = (
    "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.v := 99; RETURN new; END $$;"
    "CREATE TRIGGER change BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION change()"
)
RULE = "CREATE RULE nothing AS ON DELETE TO items DO INSTEAD NOTHING"


def triggers_of(items: Replica, **table: str) -> tuple[str, ...]:
    planned = items.plan({"source": "public.items", **table}).snapshot
    assert planned is not None
    return planned.plan.triggers


def test_a_plan_names_the_triggers_and_rules_that_fire(items: Replica) -> None:
    items.target.execute(f"{SWALLOW}; {CHANGE}; {RULE}; ALTER TABLE items DISABLE TRIGGER swallow")

    assert triggers_of(items) == ("rule nothing", "trigger change")
    assert triggers_of(items, triggers="skip") == ()
    items.target.execute("ALTER TABLE items ENABLE ALWAYS TRIGGER swallow")
    assert triggers_of(items, triggers="skip") == ("trigger swallow",)


def test_a_foreign_key_is_no_code_of_users(items: Replica) -> None:
    items.target.execute("CREATE TABLE other (id int REFERENCES items)")

    assert triggers_of(items) == ()


def test_a_partitions_trigger_is_named(items: Replica) -> None:
    items.target.execute(
        "CREATE TABLE parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);"
        "CREATE TABLE part PARTITION OF parted DEFAULT;"
        f"{CHANGE.replace('ON items', 'ON part')}"
    )

    assert triggers_of(items, target="public.parted") == ("trigger change",)


def test_a_trigger_that_swallows_rows_is_named_where_rows_are_missing(items: Replica) -> None:
    items.target.execute(SWALLOW)
    items.source.execute("INSERT INTO items VALUES (10, 10)")

    error = items.try_sync("public.items").error or ""

    assert "the target's own code did: trigger swallow" in error
    items.sync({"source": "public.items", "triggers": "skip"})
    items.assert_equal("public.items")


@pytest.mark.parametrize("code", [CHANGE, RULE, SWALLOW])
def test_skipped_triggers_and_rules_change_nothing(items: Replica, code: str) -> None:
    items.target.execute(code)
    items.source.execute("INSERT INTO items VALUES (10, 10); DELETE FROM items WHERE id = 2")
    table = {"source": "public.items", "triggers": "skip"}

    items.sync(table)

    items.assert_equal("public.items")
    assert items.verify(table).status == "match"


def test_a_role_that_may_not_skip_them_is_told_so_by_the_plan(items: Replica) -> None:
    role = f"shy_of_{items.target.name}"
    items.target.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'shy'; GRANT ALL ON ALL TABLES IN SCHEMA xmin_assets TO {role}"
    )
    items.target.execute(f"GRANT USAGE ON SCHEMA xmin_assets TO {role}")
    config = items.config({"source": "public.items", "triggers": "skip"})
    config = config.model_copy(update={"target": SecretStr(items.target.url_as(role, "shy"))})

    (refused,) = plan_tables(config)
    items.target.execute(f"GRANT SET ON PARAMETER session_replication_role TO {role}")
    (allowed,) = plan_tables(config)

    assert "GRANT SET ON PARAMETER session_replication_role" in (refused.error or "")
    assert allowed.error is None
    items.target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
