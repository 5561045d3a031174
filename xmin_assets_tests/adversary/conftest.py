"""The servers that the histories of a file are played on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xmin_assets_tests.adversary.servers import Servers, running
from xmin_assets_tests.clusters import Workshop


@pytest.fixture(scope="module")
def servers(workshop: Workshop) -> Iterator[Servers]:
    with running(workshop) as started:
        yield started
