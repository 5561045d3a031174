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


def test_a_plan_names_the_triggers_that_fire(items: Replica) -> None:
    items.target.execute(f"{SWALLOW}; {CHANGE}; ALTER TABLE items DISABLE TRIGGER swallow")

    assert triggers_of(items) == ("trigger change",)
    assert triggers_of(items, triggers="skip") == ()
    items.target.execute("ALTER TABLE items ENABLE ALWAYS TRIGGER swallow")
    assert triggers_of(items, triggers="skip") == ("trigger swallow",)


def test_rules_that_fire_are_refused_by_the_plan_where_rows_are_merged(items: Replica) -> None:
    items.target.execute(RULE)

    assert "rule nothing. Set triggers: skip" in (items.plan("public.items").error or "")
    assert triggers_of(items, triggers="skip") == ()
    items.target.execute("ALTER TABLE items DISABLE RULE nothing")
    assert triggers_of(items) == ()


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


def refusal(items: Replica, **table: str) -> str:
    """What a sync says that must be refused at once, with nothing merged."""
    before = items.target.fetch("SELECT * FROM items ORDER BY id")
    steps: list[Progress] = []
    result = items.try_sync({"source": "public.items", **table}, on_progress=steps.append)
    assert not any(step.is_retry for step in steps)
    assert items.target.fetch("SELECT * FROM items ORDER BY id") == before
    return result.error or ""


def trigger(name: str, when: str, body: str) -> str:
    """A row trigger that does this to the target."""
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        f"CREATE TRIGGER {name} {when} ON items FOR EACH ROW EXECUTE FUNCTION {name}()"
    )


def test_a_trigger_that_changes_a_copied_column_is_named_with_row_and_column(items: Replica) -> None:
    items.target.execute(CHANGE)

    error = refusal(items)

    assert "(trigger change) changed v in the row with (id)=(1)" in error
    assert "Set triggers: skip, or exclude_columns: [v]" in error
    items.sync({"source": "public.items", "triggers": "skip"})
    items.assert_equal("public.items")


@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
def test_a_trigger_that_swallows_rows_is_named_and_the_sync_is_not_tried_again(items: Replica, event: str) -> None:
    items.target.execute(SWALLOW.replace("INSERT", event))
    items.source.execute("INSERT INTO items VALUES (10, 10), (11, 11)")

    error = refusal(items)

    what = (
        "swallowed 2 rows, such as the one with (id)=(10)" if event == "INSERT" else "changed v, source_xmin in the row"
    )
    assert f"(trigger swallow) {what}" in error
    items.sync({"source": "public.items", "triggers": "skip"})
    items.assert_equal("public.items")


@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_a_trigger_that_keeps_deleted_rows_is_named(items: Replica, deletes: str) -> None:
    items.sync({"source": "public.items", "deletes": deletes})
    event = "UPDATE" if deletes == "soft" else "DELETE"
    items.target.execute(SWALLOW.replace("INSERT", event))
    items.source.execute("DELETE FROM items WHERE id IN (2, 3)")

    error = refusal(items, deletes=deletes)

    assert "(trigger swallow) kept 2 rows in the target that the source has deleted" in error
    assert "deletes: ignore" in error


def test_triggers_may_fill_columns_that_only_the_target_has(items: Replica) -> None:
    items.target.execute("ALTER TABLE items ADD loaded_at timestamptz, ADD seen int DEFAULT 0")
    items.target.execute(trigger("stamp", "BEFORE INSERT OR UPDATE", "new.loaded_at := now(); RETURN new;"))
    items.target.execute(
        trigger("see", "AFTER INSERT", "UPDATE public.items SET seen = seen + 1 WHERE id = new.id; RETURN new;")
    )
    items.source.execute("INSERT INTO items VALUES (10, 10); DELETE FROM items WHERE id = 2")

    items.sync("public.items")

    assert items.verify("public.items").status == "match"
    assert items.target.fetch("SELECT id, seen FROM items WHERE loaded_at IS NOT NULL ORDER BY id") == [(1, 0), (10, 1)]


def test_a_trigger_that_touches_what_the_merge_keeps_for_itself_is_named(items: Replica) -> None:
    items.target.execute(trigger("forget", "BEFORE UPDATE", "new.source_xmin := 1; RETURN new;"))

    error = refusal(items)

    assert "(trigger forget) changed source_xmin in the row with (id)=(1)" in error
    assert "exclude_columns" not in error


def test_a_constraint_trigger_that_waits_for_the_end_is_looked_at_too(items: Replica) -> None:
    items.target.execute(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE public.items SET v = -1 WHERE id = new.id AND v <> -1; RETURN new; END $$;"
        "CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON items DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION late()"
    )

    assert "(trigger late) changed v in the row with (id)=(1)" in refusal(items)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("INSERT INTO public.items (id, v) VALUES (-new.id, 0); RETURN new;", "inserted 1 other rows"),
        ("DELETE FROM public.items WHERE id = 5; RETURN new;", "deleted 1 other rows"),
    ],
)
def test_a_trigger_that_writes_other_rows_of_the_target_is_named(items: Replica, body: str, said: str) -> None:
    items.target.execute(trigger("others", "AFTER UPDATE", body))

    assert f"(trigger others) {said} of the target" in refusal(items)


def test_a_trigger_that_updates_other_rows_is_refused_where_they_are_copied(items: Replica) -> None:
    items.target.execute(
        trigger("one", "AFTER UPDATE", "UPDATE public.items SET v = -1 WHERE new.id = 1 AND id = 2; RETURN new;")
    )

    assert "(trigger one) changed rows of the target that the source has not changed" in refusal(items)


def test_a_trigger_may_update_other_rows_where_they_are_not_copied(items: Replica) -> None:
    items.target.execute("ALTER TABLE items ADD latest bool")
    items.target.execute(trigger("latest", "AFTER INSERT", "UPDATE public.items SET latest = id = new.id; RETURN new;"))
    items.source.execute("INSERT INTO items VALUES (10, 10); DELETE FROM items WHERE id = 2")

    result = items.sync("public.items")

    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 1, 1)
    assert items.verify("public.items").status == "match"
    assert items.target.fetch("SELECT id FROM items WHERE latest") == [(10,)]


def test_a_value_that_somebody_else_changed_is_not_blamed_on_a_trigger(items: Replica) -> None:
    with items.source.connect() as holder, holder.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_current_xact_id()")
        items.source.execute("UPDATE items SET v = 5 WHERE id = 1")  # read by every sync until the other one ends
        items.sync("public.items")
        items.target.execute("UPDATE items SET v = 77 WHERE id = 1")
        items.target.execute(trigger("stamp", "BEFORE INSERT OR UPDATE", "RETURN new;"))

        items.sync("public.items")

    items.assert_equal("public.items")


@pytest.mark.parametrize("code", [CHANGE, SWALLOW, SWALLOW.replace("INSERT", "DELETE")])
def test_without_a_key_the_contents_are_looked_at(replica: Replica, code: str) -> None:
    replica.source.execute(
        "CREATE TABLE items (id int, v int); INSERT INTO items SELECT i, i FROM generate_series(1, 9) i"
    )
    table = {"source": "public.items", "mode": "full_sync"}
    replica.sync(table)
    replica.target.execute(code)
    replica.source.execute("UPDATE items SET v = 0 WHERE id = 1")

    error = refusal(replica, mode="full_sync")

    assert "rows of the target others than were written" in error
    replica.sync({**table, "triggers": "skip"})
    replica.assert_equal("public.items")


def test_a_trigger_of_a_partition_is_looked_at(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE items (id int PRIMARY KEY, v int)")
    replica.target.execute(
        "CREATE TABLE items (id int, v int) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF items FOR VALUES FROM (MINVALUE) TO (10);"
        "CREATE TABLE high PARTITION OF items FOR VALUES FROM (10) TO (MAXVALUE)"
    )
    replica.source.execute("INSERT INTO items SELECT i, i FROM generate_series(1, 12) i")
    replica.sync("public.items")
    replica.target.execute(CHANGE.replace("ON items", "ON high"))
    replica.source.execute("UPDATE items SET v = 13 WHERE id = 5")
    replica.sync("public.items")
    replica.assert_equal("public.items")
    replica.source.execute("UPDATE items SET v = 13 WHERE id = 12")

    assert "changed v in the row with (id)=(12)" in refusal(replica)


@pytest.mark.parametrize("code", [CHANGE, RULE, SWALLOW])
def test_skipped_triggers_and_rules_change_nothing(items: Replica, code: str) -> None:
    items.target.execute(code)
    items.source.execute("INSERT INTO items VALUES (10, 10); DELETE FROM items WHERE id = 2")
    table = {"source": "public.items", "triggers": "skip"}

    items.sync(table)

    items.assert_equal("public.items")
    assert items.verify(table).status == "match"


def test_rows_bear_the_id_that_is_remembered_of_their_merge(items: Replica) -> None:
    """By it verify tells the merges' rows from those that somebody else has written."""
    xmin = "SELECT xmin::text::int8 FROM items WHERE id = 1"
    remembered = "SELECT target_xid % 4294967296 FROM xmin_assets.history ORDER BY number DESC LIMIT 1"
    items.sync("public.items")
    assert items.target.fetch(xmin) == items.target.fetch(remembered)
    items.target.execute(f"ALTER TABLE items ADD touched int; {CHANGE.replace('new.v', 'new.touched')}")
    items.source.execute("UPDATE items SET v = 7 WHERE id = 1")

    items.sync("public.items")

    assert items.target.fetch(xmin) == items.target.fetch(remembered)


def test_a_role_that_may_not_skip_them_is_told_so_by_the_plan(items: Replica) -> None:
    role = f"shy_of_{items.target.name}"
    items.target.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'shy'; GRANT ALL ON ALL TABLES IN SCHEMA xmin_assets TO {role}"
    )
    items.target.execute(f"GRANT USAGE ON SCHEMA xmin_assets TO {role}; GRANT ALL ON items TO {role}")
    config = items.config({"source": "public.items", "triggers": "skip"})
    config = config.model_copy(update={"target": SecretStr(items.target.url_as(role, "shy"))})

    (refused,) = plan_tables(config)
    items.target.execute(f"GRANT SET ON PARAMETER session_replication_role TO {role}")
    (allowed,) = plan_tables(config)

    assert "GRANT SET ON PARAMETER session_replication_role" in (refused.error or "")
    assert allowed.error is None
    items.target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
