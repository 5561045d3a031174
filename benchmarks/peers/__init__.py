"""Other programs that copy tables between PostgreSQL servers, each as its own documentation says.

Those that are Python packages are installed when they are first asked for, each into a virtual environment of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.competitor import Competitor
from benchmarks.peers.dlt import Dlt
from benchmarks.peers.pgcopydb import PgCopyDb
from benchmarks.peers.sling import Sling

NAMES = ("sling", "dlt-connectorx", "dlt-pyarrow", "pgcopydb")


def peers(names: Sequence[str], *, fresh: bool, deletes: bool) -> list[Competitor]:
    """Return those of these names that can do a scenario's work.

    Args:
        names: of `NAMES`.
        fresh: it begins with an empty target; else copies are brought up to date.
        deletes: rows are deleted in it.

    Raises:
        ValueError: there is no such program.
    """
    known: dict[str, Competitor] = {
        "sling": Sling(delete_missing=deletes),
        "dlt-connectorx": Dlt("connectorx"),
        "dlt-pyarrow": Dlt("pyarrow"),
    }
    if fresh:
        known["pgcopydb"] = PgCopyDb()
    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"There is no program {unknown[0]} to compare with; there are {', '.join(NAMES)}.")
    return [known[name] for name in names if name in known]
