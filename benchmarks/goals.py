"""What the project has set itself, and whether a benchmark shows it: ratios and bounds, no seconds of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.ours import Command
from benchmarks.report import MIB
from benchmarks.summary import Line


@dataclass(frozen=True)
class Goal:
    """One aim beside what was measured."""

    aim: str
    bound: float
    measured: float
    unit: str = ""

    @property
    def reached(self) -> bool:
        return self.measured <= self.bound


RATIOS = (
    ("full", "full load, to the baseline", 1.0),
    ("idle", "idle sync, to a bare count(*)", 1.3),
    ("updated_1", "1 % updated, to scan + MERGE by hand", 1.5),
)


def judge(lines: Sequence[Line], scale: Sequence[Line]) -> list[Goal]:
    """Return the aims that these results say something about.

    Args:
        lines: of the scenarios.
        scale: of the benchmark of sizes.
    """
    ours = [line for line in lines if line.role == "ours"]
    goals = []
    for name, aim, bound in RATIOS:
        goals += [
            Goal(aim, bound, line.ratio)
            for line in ours
            if line.scenario == name and line.ratio is not None and line.competitor != Command().name
        ]
    full = [line for line in lines if line.scenario == "full"]
    peers = [line.seconds for line in full if line.role == "peer"]
    mine = [line for line in full if line.role == "ours"]
    if mine and peers:
        goals.append(Goal("full load, to the fastest other program", 1.0, mine[0].seconds / min(peers)))
    orders = [line for line in ours if line.scenario in ("full", "idle") or line.scenario.startswith(("upd", "del"))]
    if peak := max((line.memory_bytes for line in [*orders, *_ours(scale)]), default=0):
        goals.append(Goal("memory of our process, at any size", 120, peak / MIB, "MB"))
    if mine and mine[0].data_bytes:
        goals.append(Goal("spool of a full load, to the data", 1.3, mine[0].spool_bytes / mine[0].data_bytes))
    if ours:
        goals.append(Goal("left in the spool afterwards", 0, max(line.left_bytes for line in ours), "bytes"))
    sizes = [line for line in _ours(scale) if line.scenario == "full"]
    if len(sizes) > 1:
        small, large = sizes[0], sizes[-1]
        growth = (large.seconds / large.rows) / (small.seconds / small.rows)
        many = f"{large.rows:,} rows, to"
        goals.append(Goal(f"seconds per row with {many} those with {small.rows:,}", 1.2, growth))
        if small.memory_bytes:
            growth = large.memory_bytes / small.memory_bytes
            goals.append(Goal(f"memory of a full load with {many} that with {small.rows:,}", 1.1, growth))
    goals += [
        Goal("whole command, one small table", 0.4, line.seconds, "s")
        for line in ours
        if line.competitor == Command().name
    ]
    return goals


def _ours(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.role == "ours"]
