"""From single runs to the figures that are shown: medians, ranges, and ratios to the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.equality import EQUAL
from benchmarks.results import Measurement


@dataclass(frozen=True)
class Line:
    """One competitor in one scenario."""

    scenario: str
    title: str
    competitor: str
    role: str
    runs: int
    rows: int
    data_bytes: int
    seconds: float
    """The median; also of all other figures, but where they are named otherwise."""
    fastest: float
    slowest: float
    ratio: float | None
    """Of the median to that of the baseline in the same scenario with as many rows; None without a baseline."""
    memory_bytes: int
    """The largest."""
    spool_bytes: int
    """The largest."""
    left_bytes: int
    """The largest."""
    wal_bytes: int
    written_bytes: int | None
    verdict: str
    parts: Mapping[str, float]
    """Seconds by what was done, of all tables together."""


def summarize(measurements: Iterable[Measurement]) -> list[Line]:
    """Return one line for each competitor in each scenario and size, in the order in which they were first measured."""
    groups: dict[tuple[str, int, str], list[Measurement]] = {}
    baselines: dict[tuple[str, int], list[float]] = {}
    for one in measurements:
        groups.setdefault((one.scenario, one.rows, one.competitor), []).append(one)
        if one.role == "baseline":
            baselines.setdefault((one.scenario, one.rows), []).append(one.seconds)
    return [_line(group, baselines.get((scenario, rows))) for (scenario, rows, _), group in groups.items()]


def _line(runs: Sequence[Measurement], baseline: Sequence[float] | None) -> Line:
    first = runs[0]
    seconds = [one.seconds for one in runs]
    written = [one.written_bytes for one in runs if one.written_bytes is not None]
    wrong = [one.verdict for one in runs if one.verdict != EQUAL]
    return Line(
        scenario=first.scenario,
        title=first.title,
        competitor=first.competitor,
        role=first.role,
        runs=len(runs),
        rows=first.rows,
        data_bytes=first.data_bytes,
        seconds=median(seconds),
        fastest=min(seconds),
        slowest=max(seconds),
        ratio=median(seconds) / median(baseline) if baseline else None,
        memory_bytes=max(one.memory_bytes for one in runs),
        spool_bytes=max(one.spool_bytes for one in runs),
        left_bytes=max(one.left_bytes for one in runs),
        wal_bytes=round(median(one.wal_bytes for one in runs)),
        written_bytes=round(median(written)) if written else None,
        verdict=wrong[0] if wrong else EQUAL,
        parts={part: median(one.parts[part] for one in runs) for part in first.parts},
    )
