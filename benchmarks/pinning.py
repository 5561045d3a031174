"""Each server on a core of its own, so that what the source's users feel is the source's work alone."""

from __future__ import annotations

import os

import psutil

from benchmarks.servers import Servers


def pin(servers: Servers) -> bool:
    """Let the source run on the first core only, the target on the second; False if there are no two cores."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return False
    for server, core in zip((servers.source, servers.target), cores, strict=False):
        number = int((server.data_dir / "postmaster.pid").read_text().split()[0])
        postmaster = psutil.Process(number)
        # What it starts from now on has its core, too.
        for process in (postmaster, *postmaster.children(recursive=True)):
            process.cpu_affinity([core])
    return True
