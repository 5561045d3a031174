"""The engine as a competitor: in a process of its own, timed from within, or as the installed command.

``python -m benchmarks.ours`` is that process: it reads a configuration from its standard input, syncs, and prints how
long that took. What is timed is `sync_tables` as a program would call it, with its connections, not the start of
Python nor the imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.competitor import CompetitorFailed, Outcome, Role, Task
from benchmarks.program import telling_line
from benchmarks.servers import Servers
from benchmarks.watch import Watch, high_water_mark, size_of

POLITE: dict[str, str | bool] = {"courtesy": True, "max_read_rate": "16 MiB/s"}
"""The polite setting of docs/operations.md, beside one worker."""

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Engine:
    """`sync_tables`, with so many workers."""

    workers: int = 2
    said: bool = False
    """Whether the name says how many workers there are."""
    blocks: bool = False
    """Whether the target knows the rows' blocks, so that only those that changed are read."""
    polite: bool = False
    """Whether it makes way, and reads no faster than `POLITE` says."""

    @property
    def name(self) -> str:
        if self.blocks:
            return "xmin_assets, track_blocks"
        if self.polite:
            return f"xmin_assets, courtesy, {POLITE['max_read_rate']}, {self.workers} worker"
        if not self.said:
            return "xmin_assets"
        return f"xmin_assets, {self.workers} worker{'s' * (self.workers != 1)}"

    @property
    def role(self) -> Role:
        return "ours"

    @property
    def copy(self) -> str:
        return f"ours_{self.workers}{'_blocks' * self.blocks}"

    def obstacle(self, servers: Servers) -> str | None:  # noqa: ARG002
        return None

    def load(self, task: Task) -> Outcome:
        return self.sync(task)

    def sync(self, task: Task) -> Outcome:
        spool = _spool(task)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ours"],
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with Watch(process, spool=spool) as watch:
            told, errors = process.communicate(
                json.dumps(_config(task, self.workers, self.blocks, POLITE if self.polite else {})).encode()
            )
        if process.returncode != 0:
            raise CompetitorFailed(telling_line(errors.decode(errors="replace")))
        said = json.loads(told)
        return Outcome(
            said["seconds"],
            said["memory_bytes"] or watch.memory_bytes,
            watch.spool_bytes,
            size_of(spool),
            said["parts"],
        )


@dataclass(frozen=True)
class Command:
    """``xmin-assets sync``, from its start to its end."""

    workers: int = 2

    @property
    def name(self) -> str:
        return "xmin-assets sync, whole command"

    @property
    def role(self) -> Role:
        return "ours"

    @property
    def copy(self) -> str:
        return Engine(self.workers).copy

    def obstacle(self, servers: Servers) -> str | None:  # noqa: ARG002
        return None

    def load(self, task: Task) -> Outcome:
        return self.sync(task)

    def sync(self, task: Task) -> Outcome:
        spool = _spool(task)
        file = task.folder / "tables.json"  # which is YAML, too
        file.write_text(json.dumps(_config(task, self.workers)))
        began = time.perf_counter()
        process = subprocess.Popen(
            [Path(sys.executable).parent / "xmin-assets", "sync", "--config", file],
            cwd=task.folder,
            env=_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with Watch(process, spool=spool) as watch:
            _, errors = process.communicate()
            seconds = time.perf_counter() - began
        if process.returncode != 0:
            raise CompetitorFailed(telling_line(errors.decode(errors="replace")))
        return Outcome(seconds, watch.memory_bytes, watch.spool_bytes, size_of(spool))


def _spool(task: Task) -> Path:
    spool = task.folder / "spool"
    spool.mkdir(mode=0o700, exist_ok=True)
    return spool


def _config(
    task: Task, workers: int, blocks: bool = False, more: Mapping[str, str | bool] = MappingProxyType({})
) -> dict[str, Any]:
    return {
        "source": task.source.url,
        "target": task.target.url,
        "settings": {"workers": workers, "spool": str(_spool(task)), **more},
        "defaults": {"track_blocks": blocks},
        "tables": [f"public.{table}" for table in task.tables],
    }


def _environment() -> dict[str, str]:
    # A variable of the machine goes before the configuration.
    return {name: value for name, value in os.environ.items() if not name.startswith("XMIN_")}


def main() -> int:
    """Sync once, and print what was measured as JSON."""
    # Not above: the process that runs the scenarios imports this module, too, and has no use for the engine.
    from xmin_assets.config import parse_config
    from xmin_assets.replication.sync import sync_tables

    config = parse_config(json.load(sys.stdin))
    began = time.perf_counter()
    report = sync_tables(config)
    seconds = time.perf_counter() - began
    if failed := [table.error for table in report.tables if table.error]:
        sys.stderr.write(f"{failed[0]}\n")
        return 1
    parts: dict[str, float] = {}
    for table in report.tables:
        for station, spent in table.seconds.items():
            parts[station] = round(parts.get(station, 0.0) + spent, 4)
    said = {"seconds": seconds, "memory_bytes": high_water_mark(), "parts": parts}
    sys.stdout.write(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
