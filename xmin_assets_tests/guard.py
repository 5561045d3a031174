"""A process that outlives the test session by a moment: ``python -m xmin_assets_tests.guard FOLDER``.

It waits for its standard input to end, which happens when the session closes it or dies in any way, then stops
the servers in the folder and deletes it.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from pathlib import Path

from xmin_assets.demo.cluster import Cluster
from xmin_assets.demo.programs import find_programs
from xmin_assets.demo.server_user import ServerUser

ATTEMPTS = 100


def main(folder: Path) -> int:
    # Ctrl-C and a terminal that closes are the session's business.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()

    locks = list(folder.rglob("postmaster.pid"))
    if locks:
        programs = find_programs(ServerUser.current(), folder)
        for lock in locks:
            Cluster(lock.parent, programs, password="").stop(immediate=True)
    # A program that the session has just started, such as initdb, may still be adding files.
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return 0
        time.sleep(0.1)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
