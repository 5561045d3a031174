"""What the WAL tells after pg_resetwal, which throws away all that there was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.integration.conftest import by_blocks
from xmin_assets_tests.integration.ledger import Ledger, counts
from xmin_assets_tests.servers import ask, command, next_xid, reset_xid, wait_until

pytestmark = by_blocks

SUMMARIZED = "SELECT max(end_lsn) >= (SELECT redo_lsn FROM pg_control_checkpoint()) FROM pg_available_wal_summaries()"


def summarize(server: Cluster) -> None:
    """Have all WAL so far summarized."""
    command(server, "CHECKPOINT")
    wait_until(lambda: ask(server, SUMMARIZED), "the WAL is summarized")


@pytest.mark.parametrize("summaries", ["removed", "left"])
def test_wal_that_was_reset_is_missed_even_if_the_restart_is_not_noticed(
    ledger: Ledger, traveller: Cluster, tmp_path: Path, summaries: str
) -> None:
    ledger.insert(1, 20)
    summarize(traveller)
    ledger.sync()
    ledger.change(1, 5)
    summarize(traveller)
    ledger.change(6, 7)
    ledger.source.disconnect()
    folder = traveller.data_dir / "pg_wal/summaries"
    kept = shutil.copytree(folder, tmp_path / "summaries")
    reset_xid(traveller, next_xid(traveller) + 1000)
    if summaries == "left":
        for file in kept.iterdir():
            shutil.copy(file, folder)
            traveller.programs.user.own(folder / file.name)
    # The checksum that a restart costs would find out as well.
    forge = "UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{source_started}', to_jsonb(%s::text))"
    ledger.replica.target.execute(forge, (ledger.source_start(),))
    # The first looks at the catalog log hint bits, and no commit comes to write these to the disk.
    ledger.plan()
    ask(traveller, "SELECT pg_logical_emit_message(false, 'test', 'written to disk', flush => true)")

    result = ledger.sync(whole="is in no summary")
    ledger.change(8, 8)
    later = ledger.sync()

    assert (result.mode, counts(result)) == ("xmin_incremental", (7, 0, 7, 0))
    assert counts(later) == (1, 0, 1, 0)


def test_transaction_prepared_before_a_reset_arrives_when_it_commits(ledger: Ledger, traveller: Cluster) -> None:
    ledger.insert(1, 20)
    ledger.sync()
    ledger.source.execute(
        "BEGIN; UPDATE ledger SET note = 'prepared', txid = DEFAULT WHERE id = 1; DELETE FROM ledger WHERE id = 2;"
        "PREPARE TRANSACTION 'late'"
    )
    ledger.sync()
    ledger.source.disconnect()
    reset_xid(traveller, next_xid(traveller) + 1000)
    anew = ledger.sync()
    ledger.change(3, 3)
    open_at_the_last = "a transaction that was open at the last syncs may have written before them"
    before = ledger.sync(whole=open_at_the_last)
    ledger.source.execute("COMMIT PREPARED 'late'")

    result = ledger.sync(whole=open_at_the_last)
    ledger.change(4, 4)
    later = ledger.sync()

    assert counts(anew) == (0, 0, 0, 0)
    assert counts(before) == (1, 0, 1, 0)
    assert counts(result)[1:] == (0, 1, 1)
    assert counts(later) == (1, 0, 1, 0)
