"""What a rate lets through in a time, and what texts are rates."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field

import pytest

from xmin_assets.config import ReplicationConfig, Settings, parse_config
from xmin_assets.errors import Cancelled, ConfigError
from xmin_assets.postgres import connection
from xmin_assets.replication.extraction.table_reader import RANGES_PER_STATEMENT, _groups
from xmin_assets.replication.runtime.rate_limit import BURST_SECONDS, PIECE_SECONDS, RateLimit, paced
from xmin_assets.replication.scan.ranges import BLOCK_SIZE, CtidRange, batches, bytes_with_toast, cut_into_ranges
from xmin_assets_tests.unit.test_scan import leaf

MIB = 1 << 20


@dataclass
class Clock:
    """A clock that goes on only while somebody waits by it."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def limit(self, rate: float) -> RateLimit:
        return RateLimit(rate, lambda: self.now, self.wait)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("rate", [800 << 10, 50 * MIB, 1 << 30])
def test_ten_seconds_let_as_much_through_as_the_rate_says(clock: Clock, rate: int) -> None:
    limit, moved = clock.limit(rate), 0

    while clock.now < 10:
        limit.pay(limit.piece)
        moved += limit.piece

    assert abs(moved / (10 * rate) - 1) < 0.05


def test_time_in_which_nothing_was_moved_is_not_made_up_for(clock: Clock) -> None:
    limit, moved = clock.limit(MIB), 0
    clock.now = 3600

    while clock.now < 3610:
        limit.pay(limit.piece)
        moved += limit.piece

    assert moved <= MIB * (10 + BURST_SECONDS + 2 * PIECE_SECONDS)


def test_a_reader_that_is_slower_than_the_rate_never_waits(clock: Clock) -> None:
    limit = clock.limit(MIB)

    for _ in range(20):
        limit.pay(MIB)
        clock.now += 1.01

    assert clock.waits == []


def test_nobody_waits_longer_than_until_the_deadline(clock: Clock) -> None:
    limit = clock.limit(MIB)
    limit.pay(100 * MIB)

    limit.pay(1, until=7)

    assert clock.now == 7


def test_threads_share_one_rate() -> None:
    waits: list[float] = []
    limit = RateLimit(MIB, lambda: 0.0, waits.append)
    threads = [threading.Thread(target=limit.pay, args=(MIB,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # The first one begins in the burst; the last one when seven others had a second each.
    assert sorted(waits) == [second - BURST_SECONDS for second in range(1, 8)]


def test_who_waits_is_cancelled_at_once() -> None:
    limit = RateLimit(1)
    limit.pay(3600)
    connection.cancel_all()
    try:
        with pytest.raises(Cancelled):
            limit.pay(1)
    finally:
        connection.resume()


def test_a_file_is_read_in_pieces_and_whole(clock: Clock) -> None:
    content = bytes(range(256)) * 4096

    file = paced(io.BytesIO(content), clock.limit(MIB))
    read = [*iter(lambda: file.read(MIB), b"")]

    assert b"".join(read) == content
    assert {len(piece) for piece in read} == {MIB // 16}
    assert clock.now == pytest.approx(1 - PIECE_SECONDS - BURST_SECONDS)


def test_without_a_limit_the_file_is_as_it_was() -> None:
    file = io.BytesIO(b"x")

    assert paced(file, None) is file


def test_ranges_are_no_larger_than_what_may_be_read_at_once() -> None:
    table = leaf(1000, all_bytes=3000 * BLOCK_SIZE)

    ranges = cut_into_ranges((table,), 2, 10 * BLOCK_SIZE)
    pieces = [batch for found in ranges for batch in batches(found, None, 1000, 10 * BLOCK_SIZE)]

    assert max(found.blocks for found in ranges) == 10
    assert max(map(bytes_with_toast, pieces)) <= 4 * 3 * BLOCK_SIZE
    assert sum(map(bytes_with_toast, pieces)) == 3000 * BLOCK_SIZE


def test_less_than_a_block_cannot_be_read() -> None:
    assert {found.blocks for found in cut_into_ranges((leaf(5),), 2, 100)} == {1}


@pytest.mark.parametrize("blocks", [1, 7, 100])
def test_ranges_that_are_read_together_are_as_few_as_may_be_read_at_once(blocks: int) -> None:
    one, other = leaf(4000, 1), leaf(4000, 2)
    ranges = [CtidRange(part, at, at + blocks, blocks) for part in (one, other) for at in range(0, 4000, 200)]

    groups = _groups(ranges, 10 * BLOCK_SIZE)

    assert [
        (piece.leaf, block) for group in groups for piece in group for block in range(piece.start, piece.end or 0)
    ] == [(found.leaf, block) for found in ranges for block in range(found.start, found.end or 0)]
    assert all(sum(map(bytes_with_toast, group)) <= 10 * BLOCK_SIZE for group in groups)
    assert all(len({piece.leaf for piece in group}) == 1 for group in groups)
    assert all(len(group) <= RANGES_PER_STATEMENT for group in groups)


def config(**settings: object) -> ReplicationConfig:
    return parse_config({"settings": settings, "tables": ["public.t"]})


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50 MiB/s", 50 * MIB),
        ("1GiB/s", 1 << 30),
        ("800 KiB/s", 800 << 10),
        ("1.5 mb/s", 1_500_000),
        ("9000 B/s", 9000),
    ],
)
def test_a_rate_is_read_as_people_write_it(text: str, rate: float) -> None:
    settings = config(max_read_rate=text, max_load_rate=text).settings

    assert (settings.read_rate, settings.load_rate) == (rate, rate)


def test_without_a_word_there_is_no_limit() -> None:
    assert (Settings().read_rate, Settings().load_rate) == (None, None)


@pytest.mark.parametrize("wrong", ["fast", "50", "50 MiB", "50 MiB/min", "-1 MiB/s", "50 XiB/s", "", 50, True])
def test_what_is_no_rate_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"max_load_rate is no rate: .*; write one such as 50 MiB/s"):
        config(max_load_rate=wrong)


def test_less_than_a_block_in_a_second_is_too_little() -> None:
    with pytest.raises(ConfigError, match="max_read_rate is too little"):
        config(max_read_rate="1 KiB/s")
