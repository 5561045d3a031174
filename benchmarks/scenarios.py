"""The scenarios: what is copied, what changes before every run, what it is measured against, and who takes part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg2 import sql

from benchmarks.baselines import BINARY, COUNT, DELETE, MERGE, PIPE
from benchmarks.competitor import Competitor
from benchmarks.data import SIZED, Change, Dataset, orders
from benchmarks.ours import Command, Engine
from benchmarks.peers import peers

FEW = 100
"""Rows that change in a table of any size."""


@dataclass(frozen=True)
class Scenario:
    """One line of the table of results, without its figures."""

    name: str
    title: str
    dataset: str
    """A name of `data.SIZED`."""
    baseline: Competitor
    change: Change | None = None
    """What happens to the source before every turn."""
    fresh: bool = False
    """Whether every run begins with an empty target; else the copies are brought up to date."""
    others: tuple[Competitor, ...] = ()
    """Who takes part beside the engine and the baseline."""


@dataclass(frozen=True)
class Trial:
    """A scenario with its data, and who takes part."""

    dataset: Dataset
    scenario: Scenario
    competitors: Sequence[Competitor]


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("full", "full load", "orders", PIPE, fresh=True, others=(BINARY,)),
    Scenario("idle", "idle sync, another table written", "orders", COUNT, Change("elsewhere")),
    Scenario("still", "idle sync, nothing written at all", "orders", COUNT),
    Scenario("updated_01", "0.1 % updated", "orders", MERGE, Change("update", 1000)),
    Scenario("updated_1", "1 % updated", "orders", MERGE, Change("update", 100)),
    Scenario("updated_10", "10 % updated", "orders", MERGE, Change("update", 10)),
    Scenario("deleted_1", "1 % deleted", "orders", DELETE, Change("delete", 100)),
    Scenario("wide", "full load, 100 columns", "wide", PIPE, fresh=True, others=(BINARY,)),
    Scenario("wide_1", "1 % updated, 100 columns", "wide", MERGE, Change("update", 100)),
    Scenario("toast", "full load, 8 to 20 kB of text per row", "toast", PIPE, fresh=True, others=(BINARY,)),
    Scenario("toast_1", "1 % updated, 8 to 20 kB of text per row", "toast", MERGE, Change("update", 100)),
    Scenario("many", "full load, 100 small tables", "many", PIPE, fresh=True),
    Scenario("many_idle", "idle sync, 100 small tables, another one written", "many", COUNT, Change("elsewhere")),
    Scenario("command", "whole command, one table of 1000 rows", "small", COUNT, others=(Command(),)),
)


def chosen(names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios of these names, in their own order; all for none.

    Raises:
        ValueError: there is no such scenario.
    """
    known = [scenario.name for scenario in SCENARIOS]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"There is no scenario {unknown[0]}; there are {', '.join(known)}.")
    return [scenario for scenario in SCENARIOS if not names or scenario.name in names]


def competitors(scenario: Scenario, workers: int, programs: Sequence[str]) -> list[Competitor]:
    """Return who takes part, in the order of their turns.

    Args:
        scenario: what they are compared in.
        workers: of the engine.
        programs: names of other programs, of `peers.NAMES`.
    """
    deletes = scenario.change is not None and scenario.change.verb == "delete"
    others = peers(programs, fresh=scenario.fresh, deletes=deletes)
    return [Engine(workers), scenario.baseline, *scenario.others, *others]


def trials(names: Sequence[str], rows: int, workers: int, programs: Sequence[str]) -> list[Trial]:
    """Return all that is asked for, with data after the number of orders; see `chosen` and `competitors`."""
    picked = sorted(chosen(names), key=lambda scenario: [*SIZED].index(scenario.dataset))
    return [Trial(SIZED[one.dataset](rows), one, competitors(one, workers, programs)) for one in picked]


def trials_of_sizes(sizes: Sequence[int], workers: int) -> list[Trial]:
    """Return whether cost is linear in rows, and memory the same for all."""
    return [trial for rows in sizes for trial in trials(("full", "idle", "updated_1"), rows, workers, ())]


def trials_of_blocks(sizes: Sequence[int], workers: int) -> list[Trial]:
    """Return the same small changes in ever larger tables, read by changed blocks, and by all of them."""
    made = []
    for rows in sizes:
        plain = orders(rows)
        dataset = replace(
            plain, statements=(sql.SQL("CREATE EXTENSION IF NOT EXISTS pg_walinspect"), *plain.statements)
        )
        few = max(1, rows // FEW)
        scenarios = (
            Scenario("few_updated", f"{FEW} rows updated", "orders", COUNT, Change("update", few)),
            Scenario("few_deleted", f"{FEW} rows deleted", "orders", COUNT, Change("delete", few)),
            Scenario("untouched", "another table written", "orders", COUNT, Change("elsewhere")),
        )
        made += [Trial(dataset, one, [Engine(workers, blocks=True), Engine(workers), COUNT]) for one in scenarios]
    return made


def trials_of_workers(counts: Sequence[int], rows: int) -> list[Trial]:
    """Return a full load with more and more workers."""
    (full,) = chosen(["full"])
    return [Trial(orders(rows), full, [full.baseline, *(Engine(count, said=True) for count in counts)])]
