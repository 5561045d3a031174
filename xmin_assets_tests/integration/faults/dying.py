"""`python -m xmin_assets_tests.integration.faults.dying PLACE ARGUMENTS`: the command, which SIGKILLs itself there."""

from __future__ import annotations

import os
import signal
import sys

from xmin_assets.cli.main import main
from xmin_assets_tests.integration.faults.places import happening

if __name__ == "__main__":
    place, *arguments = sys.argv[1:]
    with happening(place, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        sys.exit(main(arguments))
