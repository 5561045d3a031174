"""The figures of a benchmark follow from its runs: medians, ratios to the baseline, aims, percentiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.document import render
from benchmarks.equality import EQUAL
from benchmarks.goals import judge
from benchmarks.interference import Interference, Latency, costs, gentle, percentile
from benchmarks.report import megabytes, seconds
from benchmarks.results import Measurement, Results, Skipped
from benchmarks.scenarios import chosen
from benchmarks.summary import summarize

MIB = 1 << 20


def measured(
    competitor: str, role: str, taken: float, *, run: int = 1, rows: int = 1000, **other: object
) -> Measurement:
    facts = {
        "scenario": "full",
        "title": "full load",
        "data_bytes": 100 * MIB,
        "memory_bytes": 50 * MIB,
        "spool_bytes": 0,
        "left_bytes": 0,
        "wal_bytes": 10,
        "written_bytes": 20,
        "verdict": EQUAL,
        **other,
    }
    return Measurement(competitor=competitor, role=role, seconds=taken, run=run, rows=rows, **facts)  # type: ignore[arg-type]


def runs_of(competitor: str, role: str, *taken: float, **other: object) -> list[Measurement]:
    return [measured(competitor, role, one, run=at, **other) for at, one in enumerate(taken, 1)]


def test_a_line_has_the_median_the_range_and_the_ratio_of_medians() -> None:
    ours, baseline = summarize(
        [*runs_of("ours", "ours", 9.0, 3.0, 4.0), *runs_of("baseline", "baseline", 2.0, 1.0, 8.0)]
    )

    assert (ours.seconds, ours.fastest, ours.slowest, ours.runs) == (4.0, 3.0, 9.0, 3)
    assert (ours.ratio, baseline.ratio) == (2.0, 1.0)


def test_a_ratio_is_to_the_floor_of_the_same_scenario_and_size() -> None:
    lines = summarize(
        [
            *runs_of("baseline", "baseline", 1.0, rows=10),
            *runs_of("ours", "ours", 3.0, rows=10),
            *runs_of("baseline", "baseline", 10.0, rows=100),
            *runs_of("ours", "ours", 20.0, rows=100),
            *runs_of("ours", "ours", 7.0, scenario="idle"),
        ]
    )

    assert [line.ratio for line in lines if line.role == "ours"] == [3.0, 2.0, None]


def test_a_reference_by_hand_is_no_floor() -> None:
    lines = summarize([*runs_of("binary", "reference", 1.0), *runs_of("baseline", "baseline", 2.0)])

    assert [line.ratio for line in lines] == [0.5, 1.0]


def test_memory_and_spool_are_the_highest_and_one_wrong_copy_is_not_hidden() -> None:
    (line,) = summarize(
        [
            measured("ours", "ours", 1.0, memory_bytes=5, spool_bytes=9, left_bytes=0),
            measured("ours", "ours", 1.0, memory_bytes=7, spool_bytes=2, left_bytes=3, verdict="values differ"),
            measured("ours", "ours", 1.0, memory_bytes=6, spool_bytes=4, left_bytes=0),
        ]
    )

    assert (line.memory_bytes, line.spool_bytes, line.left_bytes) == (7, 9, 3)
    assert line.verdict == "values differ"


def test_an_aim_is_reached_at_its_bound_and_not_above() -> None:
    def full(taken: float, spool: int) -> dict[str, bool]:
        lines = summarize(
            [
                *runs_of("ours", "ours", taken, spool_bytes=spool * MIB),
                *runs_of("baseline", "baseline", 2.0),
                *runs_of("slow", "peer", 9.0),
                *runs_of("fast", "peer", 2.1),
            ]
        )
        return {goal.aim: goal.reached for goal in judge(lines, [])}

    assert set(full(2.0, 130).values()) == {True}
    missed = {aim for aim, reached in full(2.2, 131).items() if not reached}
    assert missed == {
        "full load, to the baseline",
        "full load, to the fastest other program",
        "spool of a full load, to the data",
    }


def test_cost_is_linear_if_a_row_costs_as_much_among_many() -> None:
    def growth(taken: float, memory: int) -> list[float]:
        scale = summarize(
            [
                *runs_of("ours", "ours", 1.0, rows=10, memory_bytes=50 * MIB),
                *runs_of("ours", "ours", taken, rows=300, memory_bytes=memory * MIB),
            ]
        )
        return [goal.measured for goal in judge([], scale) if " with 300 rows" in goal.aim]

    assert growth(30.0, 50) == pytest.approx([1.0, 1.0])
    assert growth(60.0, 75) == pytest.approx([2.0, 1.5])


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(share: float, expected: int) -> None:
    assert percentile([*range(100, 0, -1)], share) == expected


LATENCIES = [
    *(Latency("nothing", run, 100, 0, 1.0, p99) for run, p99 in enumerate((10.0, 40.0, 12.0), 1)),
    *(Latency("one worker", run, 100, 3, 2.0, p99) for run, p99 in enumerate((14.4, 13.0, 15.0), 1)),
    *(Latency("two workers", run, 100, 3, 2.0, p99) for run, p99 in enumerate((14.5, 13.0, 15.0), 1)),
]


def test_what_a_sync_costs_others_is_p99_against_that_beside_nothing() -> None:
    alone, one, _ = costs(LATENCIES)

    assert (alone.p99, alone.ratio) == (12.0, 1.0)
    assert (one.p99, one.lowest_p99, one.highest_p99) == (14.4, 13.0, 15.0)
    assert gentle(LATENCIES, 1.2) == ["one worker"]


def test_figures_are_as_precise_as_they_are() -> None:
    assert [seconds(value) for value in (0.01234, 0.9996, 9.876, 123.456)] == ["0.012", "1.00", "9.88", "123.5"]
    assert [megabytes(value) for value in (None, MIB // 2, 445 * MIB)] == ["-", "0.5", "445"]


def test_results_come_back_from_their_file_and_the_document_shows_them(tmp_path: Path) -> None:
    results = Results({"date": "2026-01-02"}, {"rows": 1000, "runs": 1, "load": 2.5})
    results.measurements += [measured("xmin_assets", "ours", 3.0), measured("psql", "baseline", 2.0)]
    results.skipped.append(Skipped("full", "pgcopydb", "it is not installed"))
    results.write(tmp_path / "results.json")
    polite = Interference({}, {"rows": 1000, "seconds": 5}, LATENCIES)

    few = Results({}, {"rows": 1000, "runs": 1, "load": 0.0})
    few.measurements += [measured("xmin_assets, track_blocks", "ours", 0.1)]

    text = render(Results.read(tmp_path / "results.json"), None, few, None, polite)

    assert "| full load | 1,000 | **xmin_assets** | 3.00 | 3.00 - 3.00 | 1.50 |" in text
    assert "| full load, to the baseline | at most 1 | 1.50 | no |" in text
    assert "## At the cost of the change" in text and "xmin_assets, track_blocks" in text
    assert "Left out: pgcopydb: it is not installed." in text
    assert "short run" in text and "busy with other work (load 2.5)" in text
    assert "At most 20% of p99 cost: one worker." in text
    assert "2026-01-02" in text


def test_an_unknown_scenario_is_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no scenario ful; there are full, idle"):
        chosen(["ful"])
