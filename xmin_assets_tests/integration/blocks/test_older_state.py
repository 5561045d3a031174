"""A state that an older release has written: its WAL positions are read as they are, and migrated by the next merge."""

from __future__ import annotations

import pytest

from xmin_assets.replication.table_fingerprints import probe
from xmin_assets_tests.integration.blocks.conftest import Tracked

BEFORE_VERSION_4 = """
UPDATE xmin_assets.state
   SET facts = facts - 'wal_positions'
       || jsonb_build_object('pairs', (SELECT jsonb_agg(jsonb_build_array(p -> 'lsn', p -> 'next_xid'))
                                         FROM jsonb_array_elements(facts -> 'wal_positions') AS p))
       || {unflushed};
COMMENT ON SCHEMA xmin_assets IS 'xmin_assets state, version 3';
"""
UNFLUSHED = """jsonb_build_object('unflushed', jsonb_build_object(
    'watermark', watermark, 'lsn', 0, 'pair', {pair}))"""


@pytest.mark.parametrize(
    "unflushed",
    [
        "'{}'",
        UNFLUSHED.format(pair="jsonb_build_array(facts -> 'wal_positions' -> -1 -> 'lsn', watermark)"),
        UNFLUSHED.format(pair="NULL::jsonb"),
    ],
    ids=["all is flushed", "a pair is not flushed", "no pair"],
)
def test_the_positions_of_an_older_release_go_on_telling_which_blocks_changed(tracked: Tracked, unflushed: str) -> None:
    target = tracked.replica.target
    target.execute(BEFORE_VERSION_4.format(unflushed=unflushed))
    tracked.source.execute("UPDATE items SET n = 1 WHERE id = 5")
    assert tracked.extract().block_map is not None, tracked.extract().blocks_read
    assert probe(tracked.replica.config(tracked.config)).changed == {}  # nothing is told of a state that is older

    assert tracked.sync().blocks_changed in (1, 2)

    assert target.fetch("SELECT facts ? 'pairs', facts ? 'wal_positions' FROM xmin_assets.state") == [(False, True)]
    assert target.fetch("SELECT obj_description('xmin_assets'::regnamespace)") == [("xmin_assets state, version 7",)]
    tracked.source.execute("UPDATE items SET n = 2 WHERE id = 5")
    assert tracked.sync().blocks_changed in (1, 2)
