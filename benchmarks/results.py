"""Raw results: what every single run measured, and on what machine; kept as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One run of one competitor."""

    scenario: str
    title: str
    competitor: str
    role: str
    run: int
    rows: int
    """That the source was made with."""
    data_bytes: int
    """Of the source's tables, without their indexes."""
    seconds: float
    memory_bytes: int
    """Peak of the competitor's processes; 0 where it has none of its own, or the system does not tell."""
    spool_bytes: int
    """The most that its files on the way held."""
    left_bytes: int
    """What of these files was still there in the end."""
    wal_bytes: int
    """WAL of the target."""
    written_bytes: int | None
    """Pages of tables and indexes that the target wrote, the checkpoint after it included; None if it does not tell."""
    verdict: str
    """`equality.EQUAL`, or what is wrong with the copy."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds by what was done."""


@dataclass(frozen=True)
class Skipped:
    """A competitor that could not take part, or did not come to an end."""

    scenario: str
    competitor: str
    reason: str


@dataclass
class Results:
    """All of one benchmark."""

    machine: dict[str, str]
    """What it ran on, by what people call it."""
    options: dict[str, Any]
    """What was asked for."""
    measurements: list[Measurement] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what `write` wrote."""
        raw = json.loads(path.read_text())
        return cls(
            raw["machine"],
            raw["options"],
            [Measurement(**one) for one in raw["measurements"]],
            [Skipped(**one) for one in raw["skipped"]],
        )
