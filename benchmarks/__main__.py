"""The command line of the benchmarks: ``python -m benchmarks``."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console

from benchmarks import machine, race, report
from benchmarks.contender import Contender
from benchmarks.data import SIZED
from benchmarks.equality import EQUAL
from benchmarks.peers import NAMES
from benchmarks.results import Results
from benchmarks.scenarios import SCENARIOS, Scenario, chosen, contenders
from benchmarks.servers import Servers, open_servers

RESULTS = Path(__file__).parent / "results"


@click.group()
def app() -> None:
    """Measure the engine against PostgreSQL's own tools and against other programs."""


@app.command(help="Run scenarios, in turns, and print medians: " + ", ".join(one.name for one in SCENARIOS) + ".")
@click.option("--rows", default=3_000_000, show_default=True, help="Rows of the table of orders; others follow it.")
@click.option("--runs", default=3, show_default=True, help="Turns that everybody has.")
@click.option("--only", default="", help="Names of scenarios, with commas between them.  [default: all]")
@click.option("--peers", default=",".join(NAMES), show_default=True, help="Other programs; none for none.")
@click.option("--workers", default=2, show_default=True, help="Connections that the engine may have to each side.")
@click.option("--folder", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Where the servers live.")
@click.option("--output", default=RESULTS / "latest.json", type=click.Path(dir_okay=False, path_type=Path))
def run(rows: int, runs: int, only: str, peers: str, workers: int, folder: Path | None, output: Path) -> None:
    """Run scenarios."""
    programs = [] if peers == "none" else _names(peers)
    try:
        racing = [(scenario, contenders(scenario, workers, programs)) for scenario in chosen(_names(only))]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    console = Console(stderr=True, highlight=False)
    with open_servers(folder) as servers:
        results = Results(machine.describe(servers), {"rows": rows, "runs": runs, "workers": workers})
        _race(servers, racing, results, output, console)
    # A file or a pipe has no width of its own, and the table does not fit into that of an old terminal.
    report.show(results, Console() if sys.stdout.isatty() else Console(width=200))
    if any(one.role == "ours" and one.verdict != EQUAL for one in results.measurements):
        sys.exit("A copy of ours does not equal its source.")


Racing = list[tuple[Scenario, list[Contender]]]


def _race(servers: Servers, racing: Racing, results: Results, output: Path, console: Console) -> None:
    rows, runs = results.options["rows"], results.options["runs"]
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - began:7.1f} s  {text}", markup=False)

    for name in dict.fromkeys(scenario.dataset for scenario, _ in racing):
        dataset = SIZED[name](rows)
        say(f"{dataset.rows:,} rows are made: {name}")
        with closing(race.Arena.build(servers, dataset)) as arena:
            for scenario, contenders in racing:
                if scenario.dataset != name:
                    continue
                measured, skipped = race.run(arena, scenario, contenders, runs, say)
                results.measurements += measured
                results.skipped += skipped
                results.write(output)


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def main() -> None:
    """Run the command; ended from outside, it still removes its servers."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


if __name__ == "__main__":
    main()
