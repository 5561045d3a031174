"""dlt's ``sql_database``: ``replace`` at first, then ``merge`` of what its cursor column says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.competitor import Outcome, Role, Task
from benchmarks.data import CURSOR, KEY
from benchmarks.peers.environment import NotInstalled, environment_with
from benchmarks.program import run
from benchmarks.servers import Servers

VERSION = "1.31.0"
SCRIPT = Path(__file__).with_name("dlt_pipeline.py")


@dataclass(frozen=True)
class Dlt:
    """Timed from within, as the engine is, without the start of Python and the imports."""

    backend: str
    """What reads the source: ``connectorx`` or ``pyarrow``."""

    @property
    def name(self) -> str:
        return f"dlt {VERSION}, {self.backend}"

    @property
    def role(self) -> Role:
        return "peer"

    @property
    def copy(self) -> str:
        return f"dlt_{self.backend}"

    def obstacle(self, servers: Servers) -> str | None:  # noqa: ARG002
        try:
            _python()
        except NotInstalled as error:
            return str(error)
        return None

    def load(self, task: Task) -> Outcome:
        return self._run(task, "replace")

    def sync(self, task: Task) -> Outcome:
        return self._run(task, "merge")

    def _run(self, task: Task, disposition: str) -> Outcome:
        job = {
            "source": task.source.url,
            "target": task.target.url,
            "tables": task.tables,
            "key": KEY,
            "cursor": CURSOR,
            "backend": self.backend,
            "disposition": disposition,
            "folder": str(task.folder / "pipelines"),
        }
        variables = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
        # Isolated: this folder is not on its path, where it would find this module by the name of dlt.
        told, _, watch = run([_python(), "-I", SCRIPT], task.folder, variables, json.dumps(job))
        return Outcome(json.loads(told.splitlines()[-1])["seconds"], watch.memory_bytes, watch.spool_bytes)


def _python() -> Path:
    # The release does not say that SQLAlchemy 2.1 means another driver by postgresql:// than it brings along.
    requirements = [f"dlt[postgres,sql-database]=={VERSION}", "sqlalchemy>=2,<2.1", "connectorx", "pyarrow", "pandas"]
    return environment_with("dlt", requirements) / "bin" / "python"
