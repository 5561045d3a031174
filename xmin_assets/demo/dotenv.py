"""The demo's addresses in the project's ``.env``, which ``dagster dev`` and the command line read.

Only the keys in KEYS are touched. A value that somebody else set is commented out, and restored when the demo
goes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from xmin_assets.demo.memory import write_private

KEYS = ("XMIN_SOURCE_URL", "XMIN_TARGET_URL", "DAGSTER_POSTGRES_URL")
HEADER = "# Written by xmin-assets demo up:"
REPLACED = "# replaced by xmin-assets demo up: "
_OWN_KEY = re.compile(rf"\s*(?:export\s+)?(?:{'|'.join(KEYS)})\s*=")


def write_env(directory: Path, values: Mapping[str, str]) -> Path:
    """Write ``values`` of KEYS to ``directory``/.env, mode 0600, and keep all else in it; return its path."""
    return _rewrite(directory, [HEADER, *(f"{key}={values[key]}" for key in KEYS)])


def clear_env(directory: Path) -> None:
    """Take the demo's lines out again, and the file with them when nothing else was in it."""
    if (directory / ".env").exists() and not _rewrite(directory, []).read_text().strip():
        (directory / ".env").unlink()


def _rewrite(directory: Path, block: list[str]) -> Path:
    path = (directory / ".env").resolve()
    kept: list[str] = []
    in_own_block = False
    for line in path.read_text().splitlines() if path.exists() else []:
        if line == HEADER:
            in_own_block = True
        elif _OWN_KEY.match(line) is None:
            in_own_block = False
            kept.append(line if block else line.removeprefix(REPLACED))
        elif not in_own_block:
            kept.append(f"{REPLACED}{line}" if block else line)
    write_private(path, "".join(f"{line}\n" for line in [*kept, *block]))
    return path
