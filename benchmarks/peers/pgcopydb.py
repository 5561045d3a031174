"""pgcopydb: whole databases, with the dump and restore programs of the servers' own version."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from benchmarks.competitor import CompetitorFailed, Outcome, Role, Task
from benchmarks.program import run
from benchmarks.servers import Servers


@dataclass(frozen=True)
class PgCopyDb:
    """``pgcopydb clone``, timed from start to end. It vacuums what it has copied, which is in its time."""

    jobs: int = 2

    @property
    def name(self) -> str:
        return "pgcopydb"

    @property
    def role(self) -> Role:
        return "peer"

    @property
    def copy(self) -> str:
        return "pgcopydb"

    def obstacle(self, servers: Servers) -> str | None:  # noqa: ARG002
        return None if shutil.which("pgcopydb") else "it is not installed (apt install pgcopydb)"

    def load(self, task: Task) -> Outcome:
        variables = {
            "PATH": f"{task.servers.source.programs.bin_dir}{os.pathsep}{os.environ['PATH']}",
            "PGCOPYDB_SOURCE_PGURI": task.source.url,
            "PGCOPYDB_TARGET_PGURI": task.target.url,
        }
        program = shutil.which("pgcopydb") or "pgcopydb"
        jobs = ["--table-jobs", str(self.jobs), "--index-jobs", str(self.jobs)]
        kept = ["--no-owner", "--no-acl", "--dir", str(task.folder / "work")]
        _, seconds, watch = run([program, "clone", *jobs, *kept], task.folder, variables)
        return Outcome(seconds, watch.memory_bytes, watch.spool_bytes)

    def sync(self, task: Task) -> Outcome:  # noqa: ARG002
        raise CompetitorFailed("it brings no copy up to date without a replication slot")
