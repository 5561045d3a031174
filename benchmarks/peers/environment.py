"""Virtual environments of other programs, kept in the user's cache until what is to be in them changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

INSTALL_SECONDS = 600


class NotInstalled(Exception):
    """A program could not be installed; the message says why."""


def environment_with(name: str, requirements: Sequence[str]) -> Path:
    """Return the folder of a virtual environment that holds these packages, made now if there is none.

    Raises:
        NotInstalled: pip failed.
    """
    asked = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = cache / "xmin_assets" / "benchmarks" / f"{name}-{asked}"
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        # Filled by our pip from outside: the system's Python may have none to give.
        venv.create(folder, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
        done = subprocess.run(
            [*pip, "--disable-pip-version-check", "--no-input", *requirements],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise NotInstalled(
                f"pip could not install {', '.join(requirements)}: {(errors or ['no reason given'])[-1]}"
            )
        complete.touch()
    return folder
