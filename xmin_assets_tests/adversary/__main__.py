"""The adversary for long: ``python -m xmin_assets_tests.adversary --seconds 600``, or ``--replay FILE``."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

from xmin_assets_tests.adversary.campaign import campaign, replay, shortened
from xmin_assets_tests.adversary.history import History
from xmin_assets_tests.adversary.servers import running
from xmin_assets_tests.adversary.weights import leave_out
from xmin_assets_tests.clusters import Workshop


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m xmin_assets_tests.adversary", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long to play (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the first history (default: random)")
    parser.add_argument("--replay", type=Path, help="play the history of a file again, instead")
    parser.add_argument("--write", type=Path, help="with --replay: where to write the history, shortened")
    parser.add_argument("--shorten", type=float, default=120, help="seconds to shorten a failing history in")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    parser.add_argument("--folder", type=Path, default=Path("build/adversary"), help="for failing histories")
    parser.add_argument("--without", default="", help="names of weights.py to do without, with commas between")
    told = parser.parse_args()
    leave_out(name for name in told.without.split(",") if name)
    workshop = Workshop.open()
    try:
        with running(workshop) as servers:
            spool = workshop.folder / "spool"
            if told.replay:
                failure = replay(servers, told.replay, spool)
                if failure and told.write:
                    failed = replace(History.load(told.replay), note=failure)
                    shortened(servers, failed, spool, time.monotonic() + told.shorten).write(told.write)
                return 1 if failure else 0
            seed = told.seed if told.seed is not None else SystemRandom().randrange(10**9)
            found = campaign(
                servers, seed, time.monotonic() + told.seconds, told.folder, spool,
                shorten=told.shorten, keep_going=told.keep_going, say=lambda line: print(line, flush=True),  # noqa: T201
            )  # fmt: skip
            return 1 if found else 0
    finally:
        workshop.close()


if __name__ == "__main__":
    sys.exit(main())
