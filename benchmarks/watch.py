"""What a process needs while it runs: memory, and bytes in its spool.

The kernel's own count of a child, ``ru_maxrss``, begins with what its parent had when it forked, so the high-water mark
of the program itself is read from /proc. It only rises: the last look before the end is off by the last moment at most.
"""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from types import TracebackType

import psutil

INTERVAL = 0.1
"""Seconds between two looks. To look for children is to look at all processes, which takes some milliseconds."""


class Watch:
    """Looks at processes with all their children, and at a folder, until it is left."""

    def __init__(self, *processes: subprocess.Popen[bytes], spool: Path | None = None) -> None:
        self._roots = [process.pid for process in processes]
        self._spool = spool
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.spool_bytes = 0
        """The most that the spool held."""
        self.memory_bytes = 0
        """The most that the peaks of all processes of one moment came to; 0 where the system does not tell them."""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(INTERVAL):
            alive = [pid for root in self._roots for pid in _family(root)]
            self.memory_bytes = max(self.memory_bytes, sum(high_water_mark(pid) for pid in alive))
            if self._spool is not None:
                self.spool_bytes = max(self.spool_bytes, size_of(self._spool))


def high_water_mark(pid: int | str = "self") -> int:
    """Return the most memory that a process had, in bytes; 0 if it has ended, and on a system without /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def size_of(folder: Path) -> int:
    """Return bytes of all files below a folder; files may come and go meanwhile."""
    return sum(_size(Path(parent) / name) for parent, _, names in os.walk(folder) for name in names)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _family(root: int) -> list[int]:
    try:
        return [root, *(child.pid for child in psutil.Process(root).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []
