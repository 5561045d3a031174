"""What the control group of this process allows it: CPU time and memory.

A container's limits are here and not in the machine's own figures. Both versions are read, and every group
above this process's, because the tightest one counts. See cgroups(7), the kernel's admin-guide/cgroup-v2.rst and
admin-guide/cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Limits:
    """None means that nothing limits it."""

    cpus: float | None
    """CPUs' worth of time: 1.5 is a CPU and a half."""
    memory_available: int | None
    """Bytes that may still be used: the limit less what is used and cannot be dropped from the page cache."""


def observe_limits(root: Path = Path("/")) -> Limits:
    """Return the tightest limits on this process; no limits where there are no control groups, as on macOS."""
    cpus: list[float] = []
    memory: list[int] = []
    for version, controllers, path in _memberships(root):
        if version == 2:
            for folder in _with_parents(_mounts(root, "", "unified"), path):
                cpus += _cpus_v2(folder)
                memory += _memory(folder, "memory.max", "memory.current", "inactive_file")
        if "cpu" in controllers:
            for folder in _with_parents(_mounts(root, "cpu", "cpu,cpuacct"), path):
                cpus += _cpus_v1(folder)
        if "memory" in controllers:
            for folder in _with_parents(_mounts(root, "memory"), path):
                memory += _memory(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return Limits(min(cpus, default=None), min(memory, default=None))


def _memberships(root: Path) -> Iterator[tuple[int, list[str], PurePosixPath]]:
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        yield (1 if controllers else 2), controllers.split(","), PurePosixPath(path)


def _mounts(root: Path, *names: str) -> list[Path]:
    return [root / "sys/fs/cgroup" / name for name in names]


def _with_parents(mounts: Iterable[Path], path: PurePosixPath) -> Iterator[Path]:
    # In a container the path may be the host's, of which nothing is mounted here but the mount point itself.
    for mount in mounts:
        for group in (path, *path.parents):
            yield mount / group.relative_to("/")


def _cpus_v2(folder: Path) -> list[float]:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    return _ratio(quota, period)


def _cpus_v1(folder: Path) -> list[float]:
    return _ratio(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> list[float]:
    # An unlimited group says "max" in version 2 and -1 in version 1.
    return [int(quota) / int(period)] if quota.isdigit() and period.isdigit() and int(period) else []


def _memory(folder: Path, limit: str, usage: str, droppable: str) -> list[int]:
    allowed, used = _read(folder / limit).strip(), _read(folder / usage).strip()
    if not allowed.isdigit() or not used.isdigit():
        return []
    facts = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
    return [max(0, int(allowed) - int(used) + int(facts.get(droppable, 0)))]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
