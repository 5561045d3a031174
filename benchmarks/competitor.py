"""What takes part in a comparison: it copies tables from one database to another, and says how long it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.servers import Servers
from xmin_assets_tests.clusters import Database

Role = Literal["ours", "baseline", "reference", "peer"]
"""A reference is another way to do it by hand, which no ratio is taken of; a peer is another program."""


class CompetitorFailed(Exception):
    """A competitor did not come to an end; the message says why."""


@dataclass(frozen=True)
class Task:
    """What is to be copied, from where to where."""

    servers: Servers
    source: Database
    target: Database
    """The competitor's own database, empty before a load."""
    tables: tuple[str, ...]
    """Names in the schema public, the same at both sides."""
    folder: Path
    """The competitor's own, empty before a load."""
    since: int
    """Every transaction before this xid64 was finished before the source was last changed."""


@dataclass(frozen=True)
class Outcome:
    """How a competitor's work went."""

    seconds: float
    memory_bytes: int = 0
    """Peak of its processes; 0 where it has none of its own."""
    spool_bytes: int = 0
    """The most that its files on the way held."""
    left_bytes: int = 0
    """What of these files was still there in the end."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds by what was done."""


class Competitor(Protocol):
    """Something that keeps a copy of tables."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def role(self) -> Role:
        """What it is measured for."""
        ...

    @property
    def copy(self) -> str:
        """Names its copy: competitors that share one go on from each other's state."""
        ...

    def obstacle(self, servers: Servers) -> str | None:
        """Return why it cannot take part; None if it can. It may install itself."""
        ...

    def load(self, task: Task) -> Outcome:
        """Copy everything into an empty database.

        Raises:
            CompetitorFailed: it did not come to an end.
        """
        ...

    def sync(self, task: Task) -> Outcome:
        """Bring a copy up to date.

        Raises:
            CompetitorFailed: it did not come to an end.
        """
        ...
