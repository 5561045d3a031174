"""The command line of the benchmarks: ``python -m benchmarks``."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from rich.console import Console

from benchmarks import document, interference, machine, report
from benchmarks.equality import EQUAL
from benchmarks.peers import NAMES
from benchmarks.pinning import pin
from benchmarks.results import Results
from benchmarks.runs import run as run_trials
from benchmarks.scenarios import SCENARIOS, Trial, trials, trials_of_blocks, trials_of_sizes, trials_of_workers
from benchmarks.servers import SUMMARIES, open_servers

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"


def _words(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:  # noqa: ARG001
    return [word.strip() for word in value.split(",") if word.strip() not in ("", "none")]


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        return [int(word) for word in _words(context, parameter, value)]
    except ValueError:
        raise click.BadParameter(f"{value} is no list of numbers such as 1,2,4") from None


rows_option = click.option("--rows", default=3_000_000, show_default=True, help="Rows of the table of orders.")
runs_option = click.option("--runs", default=3, show_default=True, help="Turns that everybody has.")
workers_option = click.option("--workers", default=2, show_default=True, help="Connections of ours to each side.")
folder_option = click.option(
    "--folder", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Where the servers keep their data."
)
results_option = click.option(
    "--results", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Where raw results are kept."
)


@click.group()
def app() -> None:
    """Measure the engine against PostgreSQL's own tools and against other programs."""


@app.command(help="Run scenarios: " + ", ".join(one.name for one in SCENARIOS) + ".")
@rows_option
@runs_option
@workers_option
@click.option("--only", default="", callback=_words, help="Scenarios, with commas between them.  [default: all]")
@click.option("--peers", default=",".join(NAMES), callback=_words, show_default=True, help="Other programs, or none.")
@folder_option
@results_option
def scenarios(
    rows: int, runs: int, workers: int, only: list[str], peers: list[str], folder: Path | None, results: Path
) -> None:
    """Run scenarios."""
    try:
        chosen = trials(only, rows, workers, peers)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    # The document is about all of them: a look at some does not take its results away.
    file = results / ("selection.json" if only else "scenarios.json")
    _race(chosen, {"rows": rows, "runs": runs, "workers": workers}, folder, file)


@app.command()
@click.option("--sizes", default="1000000,3000000,10000000,30000000", callback=_numbers, show_default=True)
@runs_option
@workers_option
@folder_option
@results_option
def scale(sizes: list[int], runs: int, workers: int, folder: Path | None, results: Path) -> None:
    """Measure with more and more rows: full load, idle, 1 % updated; sizes that do not fit on the disk are left out."""
    options = {"rows": max(sizes, default=0), "runs": runs, "workers": workers}
    _race(trials_of_sizes(sizes, workers), options, folder, results / "scale.json")


@app.command()
@click.option("--sizes", default="1000000,10000000,30000000", callback=_numbers, show_default=True)
@runs_option
@workers_option
@folder_option
@results_option
def blocks(sizes: list[int], runs: int, workers: int, folder: Path | None, results: Path) -> None:
    """Measure small changes in ever larger tables, by the blocks that WAL summaries name, and by all of them."""
    options = {"rows": max(sizes, default=0), "runs": runs, "workers": workers}
    _race(trials_of_blocks(sizes, workers), options, folder, results / "blocks.json", SUMMARIES)


@app.command()
@click.option("--counts", default="1,2,4,8", callback=_numbers, show_default=True, help="Numbers of workers.")
@rows_option
@runs_option
@folder_option
@results_option
def workers(counts: list[int], rows: int, runs: int, folder: Path | None, results: Path) -> None:
    """Return a full load with more and more workers."""
    _race(trials_of_workers(counts, rows), {"rows": rows, "runs": runs}, folder, results / "workers.json")


@app.command("interference")
@click.option("--counts", default="1,2,4", callback=_numbers, show_default=True, help="Numbers of workers.")
@click.option("--seconds", default=30, show_default=True, help="That each run of pgbench takes.")
@rows_option
@runs_option
@folder_option
@results_option
def measure_interference(
    counts: list[int], seconds: int, rows: int, runs: int, folder: Path | None, results: Path
) -> None:
    """Return what others at the source notice of a sync."""
    with open_servers(folder) as servers:
        described = machine.describe(servers)
        latencies = interference.measure(servers, rows, runs, interference.guests(counts), seconds, _telling())
    found = interference.Interference(described, {"rows": rows, "runs": runs, "seconds": seconds}, latencies)
    found.write(results / "interference.json")
    report.show_interference(interference.costs(latencies), _console())


@app.command("courtesy")
@click.option("--seconds", default=30, show_default=True, help="That each run of pgbench takes.")
@rows_option
@runs_option
@folder_option
@results_option
def measure_courtesy(seconds: int, rows: int, runs: int, folder: Path | None, results: Path) -> None:
    """Return what others at the source notice of a full load, with source and target on a core each."""
    with open_servers(folder) as servers:
        described = machine.describe(servers)
        if not pin(servers):
            raise click.ClickException("Source and target need a core each, and this process has one.")
        latencies = interference.measure(servers, rows, runs, interference.polite_guests(), seconds, _telling())
    found = interference.Interference(described, {"rows": rows, "runs": runs, "seconds": seconds}, latencies)
    found.write(results / "courtesy.json")
    report.show_interference(interference.costs(latencies), _console())


@app.command()
@results_option
@click.option("--folder", default=DOCS, type=click.Path(file_okay=False, path_type=Path), help="Where it is written.")
def docs(results: Path, folder: Path) -> None:
    """Make docs/benchmarks.md and its plots from the results that there are."""
    if not (results / "scenarios.json").exists():
        raise click.ClickException(f"There are no results in {results}: run make bench first.")

    def read(name: str) -> Results | None:
        return Results.read(file) if (file := results / f"{name}.json").exists() else None

    def beside(name: str) -> interference.Interference | None:
        return interference.Interference.read(file) if (file := results / f"{name}.json").exists() else None

    scenarios = Results.read(results / "scenarios.json")
    document.write(
        folder, scenarios, read("scale"), read("blocks"), read("workers"), beside("interference"), beside("courtesy")
    )


def _race(
    chosen: list[Trial],
    options: dict[str, int],
    folder: Path | None,
    file: Path,
    settings: Mapping[str, str] | None = None,
) -> None:
    load = machine.load()  # before there is any of ours
    with open_servers(folder, settings) as servers:
        results = Results(machine.describe(servers), {**options, "load": load})
        run_trials(servers, chosen, results, file, _telling())
    results.write(file)
    report.show(results, _console())
    if any(one.role == "ours" and one.verdict != EQUAL for one in results.measurements):
        raise click.ClickException("A copy of ours does not equal its source.")
    ours = {competitor.name for trial in chosen for competitor in trial.competitors if competitor.role == "ours"}
    if any(out.competitor in ours for out in results.skipped):
        raise click.ClickException("A sync of ours failed.")


def _console() -> Console:
    # A file or a pipe has no width of its own, and the table does not fit into that of an old terminal.
    return Console() if sys.stdout.isatty() else Console(width=200)


def _telling() -> Callable[[str], None]:
    """Show what happens on stderr, with the seconds since now."""
    console, began = Console(stderr=True, highlight=False, soft_wrap=True), time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - began:7.1f} s  {text}", markup=False)

    return say


def main() -> None:
    """Run the command; ended from outside, it still removes its servers."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


if __name__ == "__main__":
    main()
