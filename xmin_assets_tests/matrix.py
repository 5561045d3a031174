"""`python -m xmin_assets_tests.matrix [VERSION ...] [-- PYTEST ARGUMENTS]`: the engine's tests on other servers.

A version that is not to be had is said to be missing; `programs` says where it is looked for. Of a version that can
only be a source, the targets are those that all tests run on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from xmin_assets.demo.programs import find_programs
from xmin_assets.demo.server_user import ServerUser
from xmin_assets.replication.planning.observation import MIN_TARGET
from xmin_assets_tests.programs import candidates

VERSIONS = (14, 15, 16, 17)
"""Beside the one that all tests run on; from the oldest source that is supported on."""

# What a version of the server may change; the command line, Dagster and the documents are the same for all.
VALUES = ("stations", "tables")
PROXIES = ("faults/test_network.py", "faults/test_proxies.py")
TESTS = (*VALUES, "interleaving", "blocks", "wraparound", "identity", *PROXIES)
# Those that move, copy or crash servers need more programs than a server and its launcher.
WITHOUT_TOOLS = (*VALUES, "faults/test_proxies.py")


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
            servers = {"XMIN_POSTGRES_BIN": str(programs)}
            if version < MIN_TARGET:
                servers["XMIN_POSTGRES_BIN_TARGET"] = str(find_programs(user, Path(copies)).bin_dir)
            tests = options or [str(folder / name) for name in tests_of(version, programs)]
            ended = subprocess.run(
                [sys.executable, "-m", "pytest", "--quiet", "--numprocesses", "2", "--dist", "loadfile", *tests],
                env={**os.environ, **servers},
                check=False,
            )
            print(f"PostgreSQL {version}: {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
            status = status or ended.returncode
    return status


def tests_of(version: int, programs: Path) -> tuple[str, ...]:
    """What is worth running on a version, and can be."""
    if not (programs / "pg_resetwal").exists():
        return WITHOUT_TOOLS
    # Between its neighbours, a version differs by what values look like at most.
    return VALUES if version == 16 else TESTS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
