"""What a benchmark ran on, in words: figures mean nothing without it."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

import psutil

from benchmarks.servers import SETTINGS, Servers
from xmin_assets_tests.clusters import Database

ROOT = Path(__file__).parents[1]


def describe(servers: Servers) -> dict[str, str]:
    """Describe the machine: processor, memory, disk, versions, settings, date and commit."""
    database = Database(servers.target, "postgres")
    ((version,),) = database.fetch("SHOW server_version")
    database.disconnect()
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / (1 << 30):.0f} GiB",
        "disk": _disk(servers.folder),
        "system": f"{platform.system()} {platform.release()}",
        "PostgreSQL": f"{version}, source and target on this machine",
        "settings": ", ".join(f"{name} = {value}" for name, value in SETTINGS.items()),
        "Python": platform.python_version(),
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}",
        "commit": _commit(),
    }


def load() -> float:
    """Return how many processes ran or waited for a processor in the last minute."""
    return round(os.getloadavg()[0], 1)


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _disk(folder: Path) -> str:
    """Return the disk below a folder, as far as the kernel knows it."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if folder.is_relative_to(mount.mountpoint)]
    if not mounts:
        return "unknown"
    mount = max(mounts, key=lambda mount: len(mount.mountpoint))
    device = Path(mount.device).name
    rotates = Path("/sys/class/block") / device / "queue" / "rotational"
    if device.startswith(("vd", "xvd")):
        kind = ", virtual"
    elif rotates.exists():
        kind = ", rotating" if rotates.read_text().strip() == "1" else ", solid state"
    else:
        kind = ""
    return f"{device}, {mount.fstype}{kind}"


def _commit() -> str:
    git = ["git", "-C", str(ROOT)]
    named = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if named.returncode != 0:
        return "unknown"
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return named.stdout.strip() + (" and changes" if changed.stdout.strip() else "")
