"""The installed command, run in a process of its own against this test's databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from xmin_assets_tests.clusters import Database

COMMAND = Path(sys.executable).parent / "xmin-assets"


@dataclass(frozen=True)
class Run:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """Stdout, which must be one JSON object and nothing else."""
        value = json.loads(self.stdout)
        assert isinstance(value, dict)
        return value

    @property
    def table(self) -> dict[str, Any]:
        """The only table of the JSON object."""
        (table,) = self.json["tables"]
        assert isinstance(table, dict)
        return table

    @property
    def errors(self) -> list[str]:
        """The lines of stderr."""
        return self.stderr.splitlines()


@dataclass
class Cli:
    """Runs the command in a folder."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, **environment: str) -> Run:
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """The command, still running; ``options`` are those of ``subprocess.Popen``."""
        return subprocess.Popen(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def write_config(self, text: str) -> None:
        """What the command reads where no --config is given."""
        Path(self.environment["XMIN_CONFIG"]).write_text(text, encoding="utf-8")

    def configure(self, *tables: str, **keys: object) -> None:
        """List tables, each with the same keys."""
        self.write_config(json.dumps({"tables": [{"source": table, **keys} for table in tables]}))


@pytest.fixture
def cli(source_db: Database, target_db: Database, unconnected_cli: Cli) -> Cli:
    """The command with both databases in its environment, and no configuration file yet."""
    unconnected_cli.environment |= {"XMIN_SOURCE_URL": source_db.url, "XMIN_TARGET_URL": target_db.url}
    return unconnected_cli


@pytest.fixture
def unconnected_cli(tmp_path: Path) -> Cli:
    """The command without a database."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {
        "XMIN_CONFIG": str(tmp_path / "config.yaml"),
        "XMIN_SPOOL": str(tmp_path / "spool"),
        "COLUMNS": "80",
    }
    return Cli(tmp_path, environment)


@pytest.fixture
def rows_of() -> Callable[[Database, str], list[tuple[Any, ...]]]:
    """A table's rows as text, in an order that does not depend on the server's."""

    def rows(database: Database, table: str) -> list[tuple[Any, ...]]:
        return sorted(database.fetch(f"SELECT (t.*)::text FROM {table} AS t"))

    return rows
