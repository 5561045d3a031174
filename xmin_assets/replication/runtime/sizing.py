"""How many workers a machine can feed.

A worker is a connection that reads or loads. What it costs is CPU here (CSV through the driver) and memory
for its buffers, so the number follows the cores and the memory that this process may use.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from xmin_assets.config import Settings
from xmin_assets.replication.runtime.cgroup import Limits, observe_limits

GIB = 1 << 30

UNKNOWN_MACHINE_WORKERS = 4


@dataclass(frozen=True)
class Machine:
    """What this process may use of the machine it runs on."""

    cores: int | None
    """Physical cores; None where the system does not tell them."""
    logical_cores: int | None
    """Hardware threads; None where the system does not tell them."""
    memory_available: int | None
    """Bytes that can be used without swapping; None where the system does not tell them."""


@dataclass(frozen=True)
class Recommendation:
    """How many workers, and why."""

    workers: int
    reason: str


def recommend_workers(machine: Machine, min_workers: int = 2, max_workers: int = 8) -> Recommendation:
    """Return the number of workers for a machine: its cores, fewer where memory is short, within the two bounds."""
    cores, memory = machine.cores or machine.logical_cores, machine.memory_available
    if cores is None:
        wanted, rule = UNKNOWN_MACHINE_WORKERS, "the cores of this machine are not known"
    elif memory is None or memory >= 4 * GIB:
        wanted, rule = cores, "one worker per core"
    elif memory >= 2 * GIB:
        wanted, rule = max(2, cores - 1), "all cores but one, at least 2"
    else:
        wanted, rule = max(2, cores // 2), "half of the cores, at least 2"
    workers = min(max(wanted, min_workers), max_workers)
    if workers > wanted:
        rule += f", raised to min_workers {min_workers}"
    elif workers < wanted:
        rule += f", kept to max_workers {max_workers}"
    return Recommendation(workers, f"{machine_text(machine)}: {rule}")


def machine_text(machine: Machine) -> str:
    """Return the machine in a few words for people."""
    cores, memory = machine.cores or machine.logical_cores, machine.memory_available
    return ", ".join(
        [
            "unknown cores" if cores is None else "1 core" if cores == 1 else f"{cores} cores",
            "unknown memory" if memory is None else f"{memory / GIB:.1f} GiB of memory available",
        ]
    )


def workers_for(settings: Settings) -> int:
    """Return the workers of one table: what the settings say, else the recommendation for this machine."""
    if settings.workers is not None:
        return settings.workers
    return recommend_workers(observe_machine(), settings.min_workers, settings.max_workers).workers


def observe_machine(root: Path = Path("/")) -> Machine:
    """Look at the machine: CPU affinity, control groups, and what psutil knows of cores and memory.

    Args:
        root: where ``/proc`` and ``/sys`` are.
    """
    import psutil  # here, because most syncs need no recommendation or have nothing to do

    limits = observe_limits(root)
    usable = _usable_cpus()
    logical = len(usable) if usable else psutil.cpu_count(logical=True)
    physical = _physical_cores(usable, root) or psutil.cpu_count(logical=False)
    if physical is not None and logical is not None:
        physical = min(physical, logical)
    try:
        memory: int | None = psutil.virtual_memory().available
    except (psutil.Error, OSError):
        memory = None
    if memory is not None and limits.memory_available is not None:
        memory = min(memory, limits.memory_available)
    return Machine(_within(physical, limits), _within(logical, limits), memory)


def _usable_cpus() -> frozenset[int]:
    # Only Linux and some BSDs can tell; taskset, cpusets and `docker --cpuset-cpus` all show here.
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    return frozenset(os.sched_getaffinity(0))


def _physical_cores(cpus: frozenset[int], root: Path) -> int | None:
    # psutil counts the whole machine. Threads of one core share this list, so the distinct ones among the
    # CPUs that we may use are our cores (the kernel's admin-guide/cputopology.rst).
    siblings = set()
    for cpu in cpus:
        file = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        try:
            siblings.add(file.read_text().strip())
        except OSError:
            return None
    return len(siblings) or None


def _within(cores: int | None, limits: Limits) -> int | None:
    # A quota of 2.5 CPUs keeps three workers busy part of the time: round up, as the Go and Java runtimes do.
    if cores is None or limits.cpus is None:
        return cores
    return min(cores, max(1, math.ceil(limits.cpus)))
