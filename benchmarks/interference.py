"""What a sync costs others at the source: the latency of a light load there, with and without syncs.

pgbench does its TPC-B-like transactions at a fixed low rate, and meanwhile a table beside its own is loaded in full,
or synced though nothing has changed, over and over. Source, target and engine share this machine's cores: a source of
its own would feel less. The pipe of psql, which is the baseline of a full load, says how much of it any copy costs.
"""

from __future__ import annotations

import json
import math
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.baselines import PIPE
from benchmarks.competitor import Competitor, CompetitorFailed
from benchmarks.data import orders
from benchmarks.ours import Engine
from benchmarks.runs import Arena
from benchmarks.servers import Servers, environment

RATE = 50
"""Transactions in a second, together."""
CLIENTS = 4
SCALE = 10
"""pgbench's tables have 100,000 accounts for each of these: 150 MB."""


@dataclass(frozen=True)
class Latency:
    """One run of pgbench."""

    meanwhile: str
    """What was going on beside it."""
    run: int
    transactions: int
    syncs: int
    """Loads or syncs that came to an end meanwhile."""
    p50: float
    """Half of the transactions took longer than these milliseconds, from when they were due."""
    p99: float
    """One in a hundred took longer."""


@dataclass
class Interference:
    """All runs, and what they ran on."""

    machine: dict[str, str]
    options: dict[str, int]
    latencies: list[Latency]

    def write(self, path: Path) -> None:
        """Write the JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Interference:
        """Read what `write` wrote."""
        raw = json.loads(path.read_text())
        return cls(raw["machine"], raw["options"], [Latency(**one) for one in raw["latencies"]])


@dataclass(frozen=True)
class Cost:
    """Beside the same thing: medians of the runs, and p99 against that beside nothing."""

    meanwhile: str
    p50: float
    p99: float
    lowest_p99: float
    highest_p99: float
    ratio: float


@dataclass(frozen=True)
class Guest:
    """What goes on at the source beside pgbench, over and over."""

    name: str
    competitor: Competitor | None
    """None: nothing."""
    fresh: bool = True
    """Whether the table is loaded in full; else a copy is brought up to date, where nothing has changed."""


NOBODY = Guest("nothing", None)


def guests(counts: Sequence[int]) -> list[Guest]:
    """Return nothing, the pipe, and full loads and idle syncs with these numbers of workers."""
    engines = [Engine(count, said=True) for count in counts]
    loading: list[Competitor] = [PIPE, *engines]
    loads = [Guest(f"full load: {one.name}", one) for one in loading]
    return [NOBODY, *loads, *(Guest(f"idle sync: {one.name}", one, fresh=False) for one in engines)]


def polite_guests() -> list[Guest]:
    """Return nothing, the pipe, and full loads at full speed and at the polite setting."""
    loading: list[Competitor] = [PIPE, Engine(2, said=True), Engine(1, polite=True)]
    return [NOBODY, *(Guest(f"full load: {one.name}", one) for one in loading)]


def costs(latencies: Sequence[Latency]) -> list[Cost]:
    """Return one line for each thing that went on meanwhile, in the order in which they were first measured."""
    groups: dict[str, list[Latency]] = {}
    for one in latencies:
        groups.setdefault(one.meanwhile, []).append(one)
    alone = median(one.p99 for one in groups[NOBODY.name])
    found = []
    for meanwhile, runs in groups.items():
        high = [one.p99 for one in runs]
        middle = median(one.p50 for one in runs)
        found.append(Cost(meanwhile, middle, median(high), min(high), max(high), median(high) / alone))
    return found


def gentle(latencies: Sequence[Latency], most: float) -> list[str]:
    """Return what may go on meanwhile, so that p99 is at most so many times what it is beside nothing."""
    return [one.meanwhile for one in costs(latencies) if one.meanwhile != NOBODY.name and one.ratio <= most]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def measure(
    servers: Servers, rows: int, runs: int, beside: Sequence[Guest], seconds: int, say: Callable[[str], None]
) -> list[Latency]:
    """Run pgbench beside nothing and beside each guest, in turns.

    Args:
        servers: both, as for all that is measured.
        rows: of the table that is loaded.
        runs: turns.
        beside: what goes on meanwhile.
        seconds: that each run of pgbench takes.
        say: told of every run.
    """
    found = []
    with closing(Arena.build(servers, orders(rows))) as arena:
        bench = str(servers.program("pgbench"))
        variables = environment(arena.source.url)
        subprocess.run([bench, "-i", "-q", "-s", str(SCALE)], env=variables, check=True, capture_output=True)
        for run in range(1, runs + 1):
            for guest in beside:
                with _visiting(arena, guest) as finished:
                    times = _latencies(bench, variables, servers.folder, seconds)
                    syncs = len(finished)
                one = Latency(guest.name, run, len(times), syncs, percentile(times, 0.5), percentile(times, 0.99))
                say(f"run {run}, {guest.name}: p50 {one.p50:.2f} ms, p99 {one.p99:.2f} ms, {syncs} times")
                found.append(one)
    return found


def _latencies(bench: str, variables: dict[str, str], folder: Path, seconds: int) -> list[float]:
    """Return the milliseconds that each transaction took, from when it was due."""
    prefix = folder / "pgbench"
    subprocess.run(
        [bench, "-n", "-R", str(RATE), "-c", str(CLIENTS), "-T", str(seconds), "-l", f"--log-prefix={prefix}"],
        env=variables,
        check=True,
        capture_output=True,
    )
    times = []
    for log in folder.glob("pgbench.*"):
        # client_id transaction_no time script_no time_epoch time_us schedule_lag (pgbench's documentation)
        times += [int(line.split()[2]) / 1000 for line in log.read_text().splitlines()]
        log.unlink()
    return times


@contextmanager
def _visiting(arena: Arena, guest: Guest) -> Iterator[list[float]]:
    """Let the guest load or sync again and again until the block ends; the seconds that each time took."""
    competitor = guest.competitor
    if competitor is not None and not guest.fresh and not arena.has_copy(competitor):
        competitor.load(arena.empty(competitor))
    arena.servers.checkpoint()
    finished: list[float] = []
    if competitor is None:
        yield finished
        return
    ended = threading.Event()
    failures: list[CompetitorFailed] = []

    def visit() -> None:
        try:
            while not ended.is_set():
                outcome = (
                    competitor.load(arena.empty(competitor)) if guest.fresh else competitor.sync(arena.task(competitor))
                )
                finished.append(outcome.seconds)
        except CompetitorFailed as failure:
            failures.append(failure)

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        yield finished
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]
