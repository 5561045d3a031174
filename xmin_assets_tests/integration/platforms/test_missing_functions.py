"""Functions that a role may not execute, one by one, at the source and in the target: what is missing costs no row."""

from __future__ import annotations

from contextlib import ExitStack, closing

import pytest

from xmin_assets.errors import UnsupportedServer
from xmin_assets.postgres import server_facts
from xmin_assets.postgres.connection import Database as Endpoint
from xmin_assets.replication.doctor import diagnose, diagnose_servers
from xmin_assets.replication.status import source_status
from xmin_assets.replication.sync import plan_tables, sync_tables
from xmin_assets.replication.table_fingerprints import probe
from xmin_assets_tests.integration.platforms.conftest import ROLE, Rented, live
from xmin_assets_tests.replica import Replica

UNPROVEN = (
    "pg_current_wal_lsn",
    "pg_walfile_name",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_flush_lsn",
    "pg_postmaster_start_time",
)
"""Without one of them nothing proves a source's history."""

HARMLESS = (
    "pg_control_system",
    "pg_control_checkpoint",
    "pg_control_recovery",
    "pg_stat_get_wal_receiver",
    "pg_last_wal_replay_lsn",
    "pg_stat_get_bgwriter_stat_reset_time",
    "pg_stat_get_archiver",
    "pg_stat_get_db_stat_reset_time",
    "pg_stat_get_tuples_inserted",
    "pg_export_snapshot",
    "pg_current_xact_id",
    "pg_try_advisory_lock",
    "pg_advisory_xact_lock",
)
"""Without one of them a source's syncs read what they would read with it."""

OF_A_TARGET = (
    *UNPROVEN,
    *(name for name in HARMLESS if name != "pg_advisory_xact_lock"),
    "pg_advisory_unlock",
    "pg_lock_status",
)

PLAIN = {
    "source": ("set_config", "to_regclass"),
    "target": ("set_config", "to_regclass", "format", "pg_size_bytes", "jsonb_typeof", "jsonb_array_elements"),
}
"""Functions that no platform has a reason to forbid, and that no plan needs."""


@pytest.mark.parametrize("function", HARMLESS)
def test_a_source_without_it_is_copied_all_the_same(rented: Replica, source: Rented, function: str) -> None:
    source.forbid(function)

    _, *others = live(rented)

    assert {mode for mode, _ in others} == {"xmin_incremental"}
    assert not any("checksum" in reason for _, reason in others)


@pytest.mark.parametrize("function", UNPROVEN)
def test_a_source_without_it_proves_no_history_and_is_checked_as_a_whole(
    rented: Replica, source: Rented, function: str
) -> None:
    source.forbid(function)

    first, *others = live(rented)

    assert first == ("full_sync", "first sync")
    for mode, reason in others:
        assert mode == "xmin_incremental"
        assert "the source does not tell" in reason and "checked against it by a checksum" in reason


@pytest.mark.parametrize("function", OF_A_TARGET)
def test_a_target_without_it_is_written_all_the_same(rented: Replica, target: Rented, function: str) -> None:
    target.forbid(function)

    _, changed, _, _ = live(rented)

    assert changed[0] == "xmin_incremental"
    assert "checksum" not in changed[1]


OF_HOLDERS = ("pg_stat_get_activity", "pg_prepared_xact")
VIEWS_OF_HOLDERS = ("pg_stat_activity", "pg_prepared_xacts")


@pytest.mark.parametrize("missing", [*OF_HOLDERS, *VIEWS_OF_HOLDERS])
def test_a_source_without_it_does_not_say_who_holds_the_watermark_back(
    rented: Replica, source: Rented, missing: str
) -> None:
    """A session and a prepared transaction are open, and one of the two cannot be seen."""
    (source.hide if missing in VIEWS_OF_HOLDERS else source.forbid)(missing)
    with closing(source.connect()) as session, session.cursor() as cursor, ExitStack() as stack:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")
        source.execute("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'renter'")
        stack.callback(source.execute, "ROLLBACK PREPARED 'renter'")

        live(rented)

        planned = rented.plan("public.orders").snapshot
    assert planned is not None
    assert planned.held_back.transactions >= 2
    seen = "prepared" if "activity" in missing else "session"
    assert {holder.kind for holder in planned.held_back.by} == {seen}


@pytest.mark.parametrize("function", ["pg_current_snapshot", "pg_snapshot_xmin"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_without_it_the_plan_is_refused_with_the_grant(
    rented: Replica, source: Rented, target: Rented, function: str, side: str
) -> None:
    {"source": source, "target": target}[side].forbid(function)

    error = str(rented.plan("public.orders").error)

    assert f"looking at the {side}" in error and "the server refuses" in error
    database = {"source": source, "target": target}[side]
    database.execute(f"GRANT EXECUTE ON FUNCTION {function_oid(database, function)} TO PUBLIC")
    assert rented.plan("public.orders").error is None
    servers = diagnose_servers(rented.config("public.orders"))
    assert not [fact for server in servers for fact in server.facts if fact.stops]
    database.forbid(function)
    error = str(rented.plan("public.orders").error)
    assert "GRANT EXECUTE ON FUNCTION pg_current_snapshot(), pg_snapshot_xmin(pg_snapshot) TO the role" in error
    assert not list(rented.spool.glob("**/*.csv"))


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_exports_no_snapshot_is_read_by_one_connection(
    rented: Replica, source: Rented, target: Rented, side: str
) -> None:
    """To find that out must not cost the snapshot of the one."""
    source.execute("INSERT INTO orders SELECT i, repeat('x', 900) FROM generate_series(1000, 9000) i")
    {"source": source, "target": target}[side].let_raise("not on this platform", "pg_export_snapshot")
    attempts = []

    (result,) = sync_tables(
        rented.config("public.orders", workers=3, batch_size=100),
        on_progress=lambda step: attempts.append(step) if step.is_retry else None,
    ).tables

    assert (result.error, attempts) == (None, [])
    rented.assert_equal("public.orders")
    assert rented.verify("public.orders").status == "match"


@pytest.mark.parametrize(("side", "function"), [(side, name) for side, names in PLAIN.items() for name in names])
def test_what_is_needed_only_later_is_missed_by_the_plan(
    rented: Replica, source: Rented, target: Rented, side: str, function: str
) -> None:
    {"source": source, "target": target}[side].forbid(function)

    error = str(rented.plan("public.orders").error)

    assert f"looking at the {side}" in error and f"{function}(" in error.partition("GRANT EXECUTE ON FUNCTION ")[2]


def test_a_target_that_shows_no_locks_is_written_all_the_same(rented: Replica, target: Rented) -> None:
    target.hide("pg_locks")

    live(rented)


def test_locks_that_are_refused_are_asked_for_once(
    rented: Replica, target: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.forbid("pg_try_advisory_lock")
    opened = []
    extra_connection = Endpoint.extra_connection
    monkeypatch.setattr(
        Endpoint, "extra_connection", lambda endpoint: opened.append(endpoint) or extra_connection(endpoint)
    )

    report = sync_tables(rented.config("public.orders", "public.others"))

    assert report.ok
    assert len(opened) == 1


@pytest.mark.parametrize("counts", [True, False], ids=["forbidden", "not counted"])
def test_a_target_that_does_not_count_shows_what_a_trigger_has_done(
    rented: Replica, target: Rented, counts: bool
) -> None:
    """The trigger changes a row that the source has not changed."""
    rented.sync("public.orders")
    if counts:
        target.forbid(*(f"pg_stat_get_xact_tuples_{what}" for what in ("inserted", "updated", "deleted")))
    else:
        target.execute(f"ALTER ROLE {ROLE} SET track_counts = off")
    target.execute("""
        CREATE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
        CREATE FUNCTION harmful() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE public.orders SET item = 'by a trigger' WHERE id = 50 AND item <> 'by a trigger'; RETURN new; END $$;
        CREATE TRIGGER audit BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION harmless();
    """)
    rented.source.execute("UPDATE orders SET item = 'changed' WHERE id = 7; INSERT INTO orders VALUES (1000, 'new')")
    assert rented.sync("public.orders").rows_updated == 1
    rented.assert_equal("public.orders")
    assert rented.verify("public.orders").status == "match"

    target.execute("CREATE TRIGGER more AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION harmful()")
    rented.source.execute("INSERT INTO orders VALUES (1001, 'newer')")

    assert "changed rows of the target that the source has not changed" in str(rented.try_sync("public.orders").error)


VIEWS = (
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_locks",
    "pg_prepared_xacts",
    "pg_roles",
    "pg_settings",
    "pg_stat_activity",
    "pg_stat_archiver",
    "pg_stat_wal_receiver",
)
SUMMARIES = ("pg_available_wal_summaries", "pg_wal_summary_contents", "pg_get_wal_summarizer_state")


@pytest.mark.parametrize("how", ["forbidden", "lost", "raising"])
def test_all_of_them_may_be_missing_but_the_start(rented: Replica, source: Rented, target: Rented, how: str) -> None:
    """And the role may connect to the source and read its tables, and nothing else."""
    source.execute(
        f"REVOKE ALL ON DATABASE {source.name} FROM PUBLIC; GRANT CONNECT ON DATABASE {source.name} TO {ROLE}"
    )
    source.execute(f"REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {ROLE}")
    for database, names in ((source, (*UNPROVEN[:-1], *HARMLESS, *OF_HOLDERS[1:])), (target, OF_A_TARGET)):
        database.hide(*VIEWS)
        known = [name for (name,) in database.fetch("SELECT DISTINCT proname::text FROM pg_proc")]
        functions = [name for name in (*names, *SUMMARIES) if name in known]
        if how == "forbidden":
            database.forbid(*functions)
        elif how == "lost":
            database.lose(*functions)
        else:
            database.let_raise("not for you", *functions)

    first, *others = live(rented)

    assert first[0] == "full_sync"
    assert {mode for mode, _ in others} == {"xmin_incremental"}


def test_a_source_that_nothing_tells_from_another_one_is_refused_with_the_grant(
    rented: Replica, source: Rented
) -> None:
    source.forbid("pg_control_system", "pg_postmaster_start_time")

    error = str(rented.plan("public.orders").error)

    assert "The source" in error
    assert "GRANT EXECUTE ON FUNCTION pg_control_system() TO the role" in error


def test_a_target_without_locks_is_refused_before_anything_is_read(rented: Replica, target: Rented) -> None:
    target.forbid("pg_advisory_xact_lock")

    error = str(rented.plan("public.orders").error)

    assert "GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock(int, int) TO the role" in error
    assert rented.try_sync("public.orders").error == error
    with rented.stations("public.orders") as stations, pytest.raises(UnsupportedServer):
        stations.snapshot()


def test_a_function_that_is_taken_away_and_given_back_changes_what_is_known(rented: Replica, source: Rented) -> None:
    rented.sync("public.orders")
    source.forbid("pg_current_wal_insert_lsn")
    assert "where its WAL ends" in rented.sync("public.orders").reason

    source.execute("GRANT EXECUTE ON FUNCTION pg_current_wal_insert_lsn() TO PUBLIC")
    assert "where its WAL ends" in rented.sync("public.orders").reason  # for a minute
    server_facts.forget()
    assert "where its WAL ends" in rented.sync("public.orders").reason  # of the last sync nothing is known
    assert "checksum" not in rented.sync("public.orders").reason


def test_rows_that_another_history_has_are_found_though_nothing_shows_it(rented: Replica, source: Rented) -> None:
    """As after a crash that has undone a change: the row bears the id that it had, and another value."""
    source.forbid(*UNPROVEN)
    rented.sync("public.orders")
    rented.target.execute("UPDATE orders SET item = 'undone' WHERE id = 5")

    rented.sync("public.orders")

    rented.assert_equal("public.orders")


def test_a_role_that_may_make_no_temporary_table_follows_a_new_column(
    rented: Replica, source: Rented, target: Rented
) -> None:
    target.execute(f"REVOKE TEMPORARY ON DATABASE {target.name} FROM PUBLIC")
    rented.sync("public.orders")
    source.execute("ALTER TABLE orders ADD note text")

    rented.sync("public.orders")

    rented.assert_equal("public.orders")


@pytest.mark.parametrize(
    "function",
    [
        "pg_control_system",
        "pg_current_wal_insert_lsn",
        "pg_postmaster_start_time",
        "pg_stat_get_activity",
        "pg_export_snapshot",
        "pg_try_advisory_lock",
    ],
)
@pytest.mark.parametrize("side", ["source", "target"])
def test_what_is_taken_away_between_two_syncs_costs_one_attempt(
    rented: Replica, source: Rented, target: Rented, function: str, side: str
) -> None:
    tables = ["public.orders", "public.others"]
    attempts = []
    config = rented.config(*tables)
    with closing(source.connect()) as session, session.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")  # so that somebody holds the watermark back
        assert sync_tables(config).ok
        {"source": source, "target": target}[side].forbid(function)
        source.execute("UPDATE orders SET item = 'changed' WHERE id < 90; INSERT INTO others VALUES (1)")

        report = sync_tables(config, on_progress=lambda step: attempts.append(step.table) if step.is_retry else None)

    assert [result.error for result in report.tables] == [None, None]
    assert max(map(attempts.count, tables)) <= 1
    rented.assert_equal("public.orders")


@pytest.mark.parametrize("function", ["pg_control_system", "pg_stat_get_activity", "pg_stat_get_tuples_inserted"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_what_is_taken_away_between_two_looks_is_no_error(
    rented: Replica, source: Rented, target: Rented, function: str, side: str
) -> None:
    config = rented.config("public.orders")

    def look() -> list[str | None]:
        (planned,) = plan_tables(config)
        (diagnosis,) = diagnose(config)
        assert probe(config).fingerprints
        return [
            planned.error,
            diagnosis.error,
            source_status(config).error,
            *(s.error for s in diagnose_servers(config)),
        ]

    def forbidden() -> None:
        {"source": source, "target": target}[side].forbid(function)

    with closing(source.connect()) as session, session.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")  # so that somebody holds the watermark back
        assert look() == [None] * 5
        forbidden()
        assert look() == [None] * 5
        for command in (
            lambda: plan_tables(config)[0].error,
            lambda: diagnose(config)[0].error,
            lambda: source_status(config).error,
            lambda: diagnose_servers(config)[0].error,
            lambda: diagnose_servers(config)[1].error,
            lambda: None if probe(config).fingerprints else "nothing was seen",
        ):
            server_facts.forget()
            source.execute(f"GRANT EXECUTE ON FUNCTION {function_oid(source, function)} TO PUBLIC")
            target.execute(f"GRANT EXECUTE ON FUNCTION {function_oid(target, function)} TO PUBLIC")
            look()
            forbidden()
            assert command() is None


def function_oid(database: Rented, function: str) -> str:
    ((oid,),) = database.fetch("SELECT oid::regprocedure::text FROM pg_proc WHERE proname = %s", (function,))
    return str(oid)


def test_what_is_refused_beside_the_facts_is_said_at_once(rented: Replica, source: Rented) -> None:
    """It is part of the statement that asks for facts, which were all told before."""
    rented.sync("public.orders")
    attempts = []
    source.forbid("extract")

    (result,) = sync_tables(rented.config("public.orders"), on_progress=lambda step: attempts.append(step)).tables

    assert "GRANT EXECUTE ON FUNCTION extract TO the role" in str(result.error)
    assert sum(step.is_retry for step in attempts) == 1
