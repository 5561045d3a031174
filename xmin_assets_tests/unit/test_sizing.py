"""Workers follow the cores and the memory that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xmin_assets.config import Settings
from xmin_assets.replication.runtime.cgroup import Limits, observe_limits
from xmin_assets.replication.runtime.sizing import GIB, Machine, observe_machine, recommend_workers, workers_for


@pytest.mark.parametrize(
    ("cores", "memory", "workers"),
    [
        # Below 2 GiB: half of the cores, at least 2.
        (8, 2 * GIB - 1, 4),
        (7, GIB, 3),
        (3, GIB, 2),
        (1, GIB, 2),
        # Below 4 GiB: all cores but one, at least 2.
        (8, 2 * GIB, 7),
        (8, 4 * GIB - 1, 7),
        (2, 3 * GIB, 2),
        # From 4 GiB: the cores.
        (6, 4 * GIB, 6),
        (8, 64 * GIB, 8),
        # The bounds, 2 and 8.
        (1, 64 * GIB, 2),
        (64, 64 * GIB, 8),
        (64, GIB, 8),
        # Memory unknown: nothing speaks against the cores.
        (6, None, 6),
    ],
)
def test_workers_follow_cores_and_memory(cores: int, memory: int | None, workers: int) -> None:
    assert recommend_workers(Machine(cores, cores * 2, memory)).workers == workers


def test_four_workers_where_nothing_can_be_learned() -> None:
    assert recommend_workers(Machine(None, None, None)).workers == 4


def test_logical_cores_count_where_physical_ones_are_not_known() -> None:
    assert recommend_workers(Machine(None, 6, 64 * GIB)).workers == 6


@pytest.mark.parametrize(
    ("cores", "bounds", "workers", "words"),
    [
        (4, (5, 6), 5, "raised to min_workers 5"),
        (16, (2, 12), 12, "kept to max_workers 12"),
        (None, (6, 8), 6, "raised to min_workers 6"),
        (None, (1, 3), 3, "kept to max_workers 3"),
    ],
)
def test_the_bounds_hold_and_the_reason_says_so(
    cores: int | None, bounds: tuple[int, int], workers: int, words: str
) -> None:
    recommended = recommend_workers(Machine(cores, cores, 64 * GIB), *bounds)

    assert recommended.workers == workers
    assert words in recommended.reason


def test_the_reason_names_what_was_seen() -> None:
    reason = recommend_workers(Machine(8, 16, 3 * GIB)).reason

    assert reason == "8 cores, 3.0 GiB of memory available: all cores but one, at least 2"


def test_settings_go_before_the_recommendation() -> None:
    assert workers_for(Settings(workers=13)) == 13
    assert workers_for(Settings(min_workers=31, max_workers=31)) == 31


def test_this_machine_is_seen() -> None:
    machine = observe_machine()

    assert machine.logical_cores is not None
    assert 1 <= machine.logical_cores <= (os.cpu_count() or 1)
    assert machine.cores is None or 1 <= machine.cores <= machine.logical_cores
    assert machine.memory_available is not None
    assert machine.memory_available > 0


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert observe_limits(tmp_path) == Limits(None, None)


def test_the_tightest_group_of_version_2_counts(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/job.scope\n",
            "sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/user.slice/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/user.slice/memory.current": "0\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/memory.max": "max\n",
            "sys/fs/cgroup/memory.current": "99\n",
            "sys/fs/cgroup/user.slice/job.scope/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/user.slice/job.scope/memory.max": f"{3 * GIB}\n",
            "sys/fs/cgroup/user.slice/job.scope/memory.current": f"{2 * GIB}\n",
            # The page cache in use is dropped when memory is short, so it counts as available.
            "sys/fs/cgroup/user.slice/job.scope/memory.stat": f"anon 5\ninactive_file {GIB // 2}\n",
        },
    )

    assert observe_limits(root) == Limits(1.5, GIB + GIB // 2)


def test_a_container_sees_its_own_group_at_the_mount_point(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {"proc/self/cgroup": "0::/docker/0123abcd\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
    )

    assert observe_limits(root) == Limits(2.0, None)


def test_version_1_is_read_too(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/box\n4:cpu,cpuacct:/box\n1:name=systemd:/box\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "1000000\n",
            "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "400000\n",
            "sys/fs/cgroup/memory/box/memory.stat": "total_inactive_file 100000\n",
        },
    )

    assert observe_limits(root) == Limits(2.5, 700_000)


def test_a_quota_and_a_memory_limit_bound_the_machine(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/memory.max": "1000000\n",
            "sys/fs/cgroup/memory.current": "250000\n",
        },
    )

    assert observe_machine(root) == Machine(cores=1, logical_cores=1, memory_available=750_000)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no CPU affinity")
def test_two_threads_of_one_core_are_one_core(tmp_path: Path) -> None:
    usable = os.sched_getaffinity(0)
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    root = put(tmp_path, {topology.format(cpu): "all\n" for cpu in usable})

    machine = observe_machine(root)

    assert (machine.cores, machine.logical_cores) == (1, len(usable))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no CPU affinity")
def test_affinity_bounds_the_cores() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        machine = observe_machine()
    finally:
        os.sched_setaffinity(0, before)

    assert (machine.cores, machine.logical_cores) == (1, 1)
