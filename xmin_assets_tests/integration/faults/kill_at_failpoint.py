"""The command, which SIGKILLs itself: `python -m xmin_assets_tests.integration.faults.kill_at_failpoint WHERE ...`."""

from __future__ import annotations

import os
import signal
import sys

from xmin_assets.cli.main import main
from xmin_assets_tests.integration.faults.failpoints import at_failpoint

if __name__ == "__main__":
    failpoint, *arguments = sys.argv[1:]
    with at_failpoint(failpoint, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        sys.exit(main(arguments))
