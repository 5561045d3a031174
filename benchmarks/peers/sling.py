"""Sling, by a replication file: everything with ``full-refresh``, changes with ``incremental`` and a cursor column."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.competitor import Outcome, Role, Task
from benchmarks.data import CURSOR, KEY
from benchmarks.peers.environment import NotInstalled, environment_with
from benchmarks.program import run
from benchmarks.servers import Servers

VERSION = "1.4.11"


@dataclass(frozen=True)
class Sling:
    """Timed from the program's start to its end."""

    delete_missing: bool = False
    """Whether it is told to compare keys, which it does not by itself."""

    @property
    def name(self) -> str:
        return f"Sling {VERSION}"

    @property
    def role(self) -> Role:
        return "peer"

    @property
    def copy(self) -> str:
        return "sling"

    def obstacle(self, servers: Servers) -> str | None:  # noqa: ARG002
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            return "its program is taken from the wheel for Linux on x86-64"
        try:
            _program()
        except NotInstalled as error:
            return str(error)
        return None

    def load(self, task: Task) -> Outcome:
        return self._run(task, {"mode": "full-refresh"})

    def sync(self, task: Task) -> Outcome:
        how: dict[str, Any] = {"mode": "incremental"}
        if self.delete_missing:
            how["target_options"] = {"delete_missing": "hard"}
        return self._run(task, how)

    def _run(self, task: Task, how: dict[str, Any]) -> Outcome:
        keys = {"primary_key": [KEY], "update_key": CURSOR}
        streams = {f"public.{table}": {"object": f"public.{table}", **keys, **how} for table in task.tables}
        file = task.folder / "replication.yaml"
        file.write_text(json.dumps({"source": "SOURCE", "target": "TARGET", "streams": streams}))
        variables = {
            "SOURCE": f"{task.source.url}?sslmode=disable",
            "TARGET": f"{task.target.url}?sslmode=disable",
            "SLING_DISABLE_TELEMETRY": "true",
            # Without it nothing is done, no row deleted either, where no row was changed.
            "SLING_ALLOW_EMPTY": "TRUE",
        }
        _, seconds, watch = run([_program(), "run", "-r", file], task.folder, variables)
        return Outcome(seconds, watch.memory_bytes, watch.spool_bytes)


def _program() -> Path:
    # The package sling itself is a wrapper in Python, which would only be started first.
    environment = environment_with("sling", [f"sling=={VERSION}", f"sling-linux-amd64=={VERSION}"])
    found = next(environment.glob("lib/python*/site-packages/sling_linux_amd64/bin/sling-linux-amd64"), None)
    if found is None:
        raise NotInstalled("the wheel sling-linux-amd64 holds no program")
    found.chmod(0o755)
    return found
