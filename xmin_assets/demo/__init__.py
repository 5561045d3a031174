"""Two PostgreSQL servers of one's own, to try the project on and to test it with.

    up(directory)       start a source and a target, with sample tables, and write .env
    load(directory)     keep changing the source
    down(directory)     stop them; with purge, delete them

``walkthrough.run_demo`` is what ``make demo`` shows: sync, change, sync, compare.

Below these: ``Cluster`` is one server in a data directory, ``Programs`` are PostgreSQL's programs and the account
that they run as. Nothing here is needed to replicate, and nothing of it is imported by what replicates.
"""

from __future__ import annotations

from xmin_assets.demo.server_pair import ServerPair, down, up, write_env
from xmin_assets.demo.workload import LoadReport, load

__all__ = ["LoadReport", "ServerPair", "down", "load", "up", "write_env"]
