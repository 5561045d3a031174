"""Stage: the rows that were extracted, all of them, and only once."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmin_assets.errors import DataInvalid, StaleExtract
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.replica import Replica


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, code text NOT NULL, note text);"
        "INSERT INTO items SELECT i, 'c' || i % 10, NULL FROM generate_series(1, 1000) i"
    )
    return replica


def test_leftovers_of_a_crashed_sync_are_replaced(items: Replica) -> None:
    with items.stations("public.items") as stations:
        stations.up_to_stage()
        staged = stations.up_to_stage()
        stations.merge(staged)

    items.assert_equal("public.items")


def test_a_key_that_repeats_is_named_with_an_example(items: Replica) -> None:
    with (
        items.stations({"source": "public.items", "key": "code"}) as stations,
        pytest.raises(DataInvalid, match=r"the key \(code\) does not identify.*\(code\)=\(c\d\)"),
    ):
        stations.up_to_stage()


def test_a_key_that_is_null_is_refused(items: Replica) -> None:
    with (
        items.stations({"source": "public.items", "key": "note"}) as stations,
        pytest.raises(DataInvalid, match=r"the key \(note\).*NULL"),
    ):
        stations.up_to_stage()


def test_a_part_that_is_gone_says_what_to_do(items: Replica) -> None:
    with items.stations("public.items") as stations:
        extracted = stations.up_to_extract()
        Path(extracted.parts[0].uri).unlink()

        with pytest.raises(StaleExtract, match="Extract the table again"):
            stations.stage(extracted)


def test_a_part_that_was_cut_is_noticed(items: Replica) -> None:
    with items.stations("public.items") as stations:
        extracted = stations.up_to_extract()
        part = Path(extracted.parts[0].uri)
        part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:-1]))

        with pytest.raises(DataInvalid, match="has 999 rows, 1000 were extracted"):
            stations.stage(extracted)


def test_a_sync_that_was_overtaken_while_staging_is_refused(items: Replica) -> None:
    with items.stations("public.items") as stations:
        first = stations.up_to_stage()
        second = stations.up_to_stage()

        with pytest.raises(StaleExtract, match="replaced or merged"):
            stations.merge(first)
        assert stations.merge(second).inserted == 1000


def test_an_idle_sync_stages_nothing(items: Replica) -> None:
    items.sync("public.items")

    with items.stations("public.items") as stations:
        assert stations.up_to_stage().name is None


@pytest.mark.parametrize("change", ["UPDATE items SET note = 'x'", "DELETE FROM items WHERE id > 700"])
def test_a_server_crash_that_empties_the_staged_table_loses_nothing(
    items: Replica, workshop: Workshop, tmp_path: Path, change: str
) -> None:
    server = workshop.start_target(f"crashing-{tmp_path.name}")
    target = Database.create(server)
    crashing = Replica(items.source, target, items.spool, items.settings)
    crashing.sync("public.items")
    items.source.execute(change)
    with crashing.stations("public.items") as stations:
        staged = stations.up_to_stage()
    server.stop(immediate=True)
    server.start()

    # The port may be another one now, so these are other connections.
    with crashing.stations("public.items") as stations, pytest.raises(StaleExtract, match="crashed"):
        stations.merge(staged)

    crashing.sync("public.items")
    crashing.assert_equal("public.items")
    server.stop()
