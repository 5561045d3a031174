"""Servers that are too old are refused in words."""

from __future__ import annotations

import pytest

from xmin_assets.errors import UnsupportedServer
from xmin_assets.postgres.server import Server, require_version
from xmin_assets.replication.planning.observation import MIN_SOURCE, MIN_TARGET


def server(version: int) -> Server:
    return Server(version, "7000", 5, "shop", False, 1, 0, "3:3:", "")


@pytest.mark.parametrize(("version", "minimum"), [(130014, MIN_SOURCE), (140012, MIN_TARGET), (90624, MIN_SOURCE)])
def test_an_older_server_is_named_with_what_is_needed(version: int, minimum: int) -> None:
    with pytest.raises(UnsupportedServer, match=rf"is PostgreSQL {version // 10000}; {minimum} or newer is needed"):
        require_version(server(version), "source h/db", minimum)


@pytest.mark.parametrize(("version", "minimum"), [(140000, MIN_SOURCE), (150000, MIN_TARGET), (180006, MIN_TARGET)])
def test_the_oldest_supported_servers_pass(version: int, minimum: int) -> None:
    require_version(server(version), "source h/db", minimum)
