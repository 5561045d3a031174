"""How far a sync is, for whatever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xmin_assets.replication.manifests.report import Station


@dataclass(frozen=True)
class Progress:
    """One step forward. `total` is 0 while it is not known."""

    table: str
    station: Station
    done: int
    """Rows so far at this station."""
    total: int
    note: str = ""
    """The plan's mode and reason, a retry, or the like: a line for people."""
    is_retry: bool = False
    """Whether an attempt has failed and the next one begins; `note` says why."""


ProgressCallback = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """Show nothing."""
