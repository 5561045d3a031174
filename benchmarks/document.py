"""docs/benchmarks.md, made from the results: its text is here, its figures are theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import interference, report
from benchmarks.baselines import BINARY, COUNT, DELETE, MERGE, PIPE
from benchmarks.goals import judge
from benchmarks.results import Results
from benchmarks.summary import Line, summarize

HEAD = """# Benchmarks

Made by `make bench-docs` from the results of `make bench-all`; not to be edited by hand.

{note}

Seconds say something about one machine, ratios about the programs. So each scenario has a *baseline*: what PostgreSQL
needs at least for the same work, done by hand with psql on the same servers, nothing checked and nothing remembered.
Everybody takes turns (ours, baseline, the others, and again), each with a target database of its own, prepared the same
way: before every run both servers make a checkpoint, and the tables are vacuumed and analyzed. After every run the copy
is compared with the source, row count and checksum of all values. The figures are medians.

- *{pipe}*: `COPY ... TO STDOUT` and `COPY ... FROM STDIN` by two psql and one pipe, into a plain table, then its key.
- *{binary}*, beside it: the same in PostgreSQL's binary format, which needs servers that agree on every type.
- `{count}`: that alone, by one process of the server, on a connection that is open.
- *{merge}*: the rows that `age(xmin)` tells, through a pipe into a temporary table, and a MERGE.
- *{delete}*: all keys through a pipe into a temporary table, and a DELETE of the rows that are not among them.

Ours is timed in a process of its own, from the call of `sync_tables` to its return, connections included; dlt likewise
from within; the others from their start to their end. Updated and deleted rows are spread over the whole table: with
1 % of them nearly every second block has one. Memory is the peak of a competitor's processes together, without the
servers'; where it has many, what they share counts for each of them.
"""

SCENARIOS = """## Scenarios

{table}

*to baseline*: of the medians. *memory*: the highest of all runs. *spool*: the most that files on the way came to, of
all runs. *WAL* and *written*: what the target server wrote, the latter as pages of tables and indexes that go through
its buffers, the checkpoint afterwards included. *copy*: how it compares with the source.

Where our time goes, seconds of all tables together:

{stations}
"""

GOALS = """## What we want to reach

{table}
"""

SCALE = """## Many rows

![Seconds and memory over the number of rows](images/benchmark-scale.png)

{table}
"""

BLOCKS = """## At the cost of the change

The same small changes in ever larger tables. With `track_blocks: true`, `summarize_wal = on` and pg_walinspect at the
source a sync reads the blocks that changed; without `track_blocks` it reads them all.

The source is vacuumed before every run, which is a change of blocks, too: PostgreSQL 18 freezes a share of the pages of
a table that was just loaded each time, and those are read as well. We take that for the reason of the slower ones of
these runs: their memory shows maps of many blocks.

{table}
"""

WORKERS = """## Workers

![Seconds of a full load over the number of workers](images/benchmark-workers.png)

{table}
"""

INTERFERENCE = """## What others at the source notice

pgbench does {rate} transactions a second at the source (TPC-B-like, {clients} clients, {seconds} s in each run), while
a table of {rows} rows beside its own is loaded in full, or synced though nothing has changed, over and over. Source,
target and engine share the machine's cores here, each sync starts a Python of its own, and a source on a machine of its
own would feel less. The pipe of psql says how much any copy costs.

{table}

{advice}
"""

COURTESY = """## What a polite load costs others

The same load of pgbench and the same table, with the server that is the source on one core and the target on another.
The last line is the polite setting of [operations](operations.md#a-budget-for-the-source).

{table}

{advice}
"""

MACHINE = """## The machine

{table}
"""

COSTLY = 1.2
"""What p99 may rise to."""

BUSY = 0.5
"""Processes that ran or waited before the start, from which on others had a part in the figures."""


def render(
    scenarios: Results,
    scale: Results | None,
    blocks: Results | None,
    workers: Results | None,
    beside: interference.Interference | None,
    polite: interference.Interference | None = None,
) -> str:
    """Return the document; parts without results are left out."""
    lines = summarize(scenarios.measurements)
    scaled = summarize(scale.measurements) if scale else []
    names = {"pipe": PIPE.name, "binary": BINARY.name, "count": COUNT.name, "merge": MERGE.name, "delete": DELETE.name}
    parts = [HEAD.format(note=_note(scenarios), **names), GOALS.format(table=_goals(lines, scaled))]
    parts.append("![Full load and 1 % updated, by competitor](images/benchmark-scenarios.png)\n")
    stations = _table(report.STATION_HEADINGS, report.station_rows(lines))
    parts.append(SCENARIOS.format(table=_lines(lines), stations=stations))
    parts += [_skipped(scenarios)] * bool(scenarios.skipped)
    if scale:
        parts.append(SCALE.format(table=_lines(scaled)))
        parts += [_skipped(scale)] * bool(scale.skipped)
    if blocks:
        parts.append(BLOCKS.format(table=_lines(summarize(blocks.measurements))))
        parts += [_skipped(blocks)] * bool(blocks.skipped)
    if workers:
        parts.append(WORKERS.format(table=_lines(summarize(workers.measurements))))
    parts += [_interference(found, text) for found, text in ((beside, INTERFERENCE), (polite, COURTESY)) if found]
    parts.append(MACHINE.format(table=_table(["", ""], [[name, value] for name, value in scenarios.machine.items()])))
    return "\n".join(parts)


def write(
    folder: Path,
    scenarios: Results,
    scale: Results | None,
    blocks: Results | None,
    workers: Results | None,
    beside: interference.Interference | None,
    polite: interference.Interference | None,
) -> None:
    """Write the document and its plots into a folder."""
    from benchmarks import plots  # here, because only this needs matplotlib

    images = folder / "images"
    plots.plot_scenarios(scenarios, images / "benchmark-scenarios.png")
    if scale:
        plots.plot_scale(scale, images / "benchmark-scale.png")
    if workers:
        plots.plot_workers(workers, images / "benchmark-workers.png")
    (folder / "benchmarks.md").write_text(render(scenarios, scale, blocks, workers, beside, polite))


def _note(results: Results) -> str:
    rows, runs, load = (results.options[name] for name in ("rows", "runs", "load"))
    said = f"{rows:,} orders, {runs} runs of each."
    if rows < 3_000_000 or runs < 3:
        said = f"**A short run, to be taken as an example:** {said}"
    if load >= BUSY:
        said += f" The machine was busy with other work (load {load:.1f}), so figures scatter, and ratios with them."
    return said


def _goals(lines: Sequence[Line], scaled: Sequence[Line]) -> str:
    rows = [
        [
            goal.aim,
            f"at most {goal.bound:g} {goal.unit}".strip(),
            f"{goal.measured:.2f}",
            "yes" if goal.reached else "no",
        ]
        for goal in judge(lines, scaled)
    ]
    return _table(["", "aim", "measured", "reached"], rows)


def _lines(lines: Sequence[Line]) -> str:
    rows = []
    last = None
    for line in lines:
        head = (line.scenario, line.rows)
        cells = report.cells(line, repeated=head == last)
        cells[2] = f"**{cells[2]}**" if line.role == "ours" else cells[2]
        rows.append(cells)
        last = head
    return _table(report.HEADINGS, rows)


def _skipped(results: Results) -> str:
    reasons = {f"{out.competitor}: {out.reason}": None for out in results.skipped}
    return "Left out: " + "; ".join(reasons) + ".\n"


def _interference(found: interference.Interference, text: str) -> str:
    costs = interference.costs(found.latencies)
    kind = interference.gentle(found.latencies, COSTLY)
    advice = f"At most {COSTLY - 1:.0%} of p99 cost: {'; '.join(kind) or 'none of them'}."
    return text.format(
        rate=interference.RATE,
        clients=interference.CLIENTS,
        seconds=found.options["seconds"],
        rows=f"{found.options['rows']:,}",
        table=_table(report.COURTESY_HEADINGS, [report.interference_cells(cost) for cost in costs]),
        advice=advice,
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    # Its asterisk would start emphasis.
    return "\n".join(f"| {' | '.join(line)} |".replace("count(*)", "`count(*)`") for line in lines)
