"""Running another program: timed from start to end, its memory watched, its failure explained in a line."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.competitor import CompetitorFailed
from benchmarks.watch import Watch

TIMEOUT_SECONDS = 3600


def run(
    command: Sequence[str | Path], folder: Path, variables: Mapping[str, str], typed: str = ""
) -> tuple[bytes, float, Watch]:
    """Run a program, its home in a folder of ours; what it printed, how many seconds it took, and its watch.

    Args:
        command: the program and its arguments.
        folder: its home and working directory; it is watched as its spool.
        variables: of its environment, beside the path.
        typed: its standard input.

    Raises:
        CompetitorFailed: it ended with an error.
    """
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), **variables}
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with Watch(process, spool=folder) as watch:
        try:
            told, errors = process.communicate(typed.encode(), timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise CompetitorFailed(f"it did not end within {TIMEOUT_SECONDS} s") from None
        seconds = time.perf_counter() - began
    if process.returncode != 0:
        said = (told + b"\n" + errors).decode(errors="replace")
        raise CompetitorFailed(f"status {process.returncode}: {telling_line(said)}")
    return told, seconds, watch


def telling_line(output: str) -> str:
    """Return the line of a program's output that says most of why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\b(FATAL|ERROR|\w*Error)\b", line)]
    return [*telling[-1:], *lines[-1:], "it said nothing"][0]
