"""A watermark that is held back is seen, with whom to blame."""

from __future__ import annotations

import pytest

from xmin_assets import sync_tables
from xmin_assets.replication.runtime.progress import Progress
from xmin_assets.replication.status import source_status
from xmin_assets.replication.sync import plan_tables
from xmin_assets_tests.replica import Replica


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute("CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items VALUES (1, 1)")
    return replica


def open_writer(items: Replica) -> int:
    """A session that has written and does not commit; its process id."""
    writer = items.source.connect()
    writer.autocommit = False
    writer.cursor().execute("INSERT INTO items VALUES (2, 2)")
    return int(writer.info.backend_pid)


def test_an_open_transaction_is_named_by_its_process(items: Replica) -> None:
    pid = open_writer(items)
    items.source.execute("UPDATE items SET n = 2")
    items.source.execute("UPDATE items SET n = 3")

    (plan,) = plan_tables(items.config("public.items"))

    assert plan.snapshot
    held_back = plan.snapshot.held_back
    assert held_back.transactions == 3
    assert (held_back.by[0].kind, held_back.by[0].name) == ("session", str(pid))
    assert held_back.seconds > 0


def test_a_prepared_transaction_is_named_by_its_gid(items: Replica) -> None:
    items.source.execute("BEGIN; INSERT INTO items VALUES (3, 3); PREPARE TRANSACTION 'left-behind'")

    try:
        found = source_status(items.config("public.items")).held_back
    finally:
        items.source.execute("ROLLBACK PREPARED 'left-behind'")

    assert found and [(holder.kind, holder.name) for holder in found.by] == [("prepared", "left-behind")]


def test_a_reader_holds_nothing_back(items: Replica) -> None:
    reader = items.source.connect()
    reader.autocommit = False
    reader.cursor().execute("SELECT * FROM items")

    found = source_status(items.config("public.items")).held_back

    assert found
    assert (found.transactions, found.by) == (0, ())


def test_a_role_that_may_not_see_ages_still_sees_how_far(items: Replica) -> None:
    items.source.execute("CREATE ROLE blind LOGIN PASSWORD 'blind'; GRANT SELECT ON items TO blind")
    pid = open_writer(items)
    try:
        config = items.config("public.items").model_copy(update={"source": None})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XMIN_SOURCE_URL", items.source.url_as("blind", "blind"))
            found = source_status(config).held_back
    finally:
        items.source.execute("DROP OWNED BY blind; DROP ROLE blind")

    assert found and found.transactions == 1
    assert [(holder.name, holder.seconds) for holder in found.by] == [(str(pid), None)]


@pytest.mark.parametrize(("threshold", "warned"), [(0, True), (3600, False)])
def test_a_sync_warns_of_a_transaction_older_than_the_threshold(items: Replica, threshold: float, warned: bool) -> None:
    open_writer(items)
    notes: list[str] = []

    def note(progress: Progress) -> None:
        notes.append(progress.note)

    sync_tables(items.config("public.items", held_back_warning=threshold), on_progress=note)

    assert any(text.startswith("warning: the watermark is held back") for text in notes) is warned


def test_an_unreachable_source_does_not_hide_the_status(items: Replica) -> None:
    config = items.config("public.items").model_copy(update={"source": None})

    found = source_status(config)

    assert found.held_back is None and "XMIN_SOURCE_URL" in (found.error or "")
