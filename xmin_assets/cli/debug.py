"""``--debug``: where an error came from, on stderr, without passwords."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from xmin_assets.cli.console import show_note


class _Handler(logging.Handler):
    def __init__(self, connection_strings: Callable[[], tuple[str, ...]]) -> None:
        super().__init__(logging.DEBUG)
        self._connection_strings = connection_strings

    def emit(self, record: logging.LogRecord) -> None:
        show_note(self.format(record), self._connection_strings())


def show_log(connection_strings: Callable[[], tuple[str, ...]]) -> None:
    """Show from now on what the engine logs, which is where the errors of tables came from.

    Args:
        connection_strings: gives those that may hold passwords, once they are known.
    """
    log = logging.getLogger("xmin_assets")
    log.setLevel(logging.DEBUG)
    log.addHandler(_Handler(connection_strings))


def show_traceback(error: BaseException, connection_strings: tuple[str, ...]) -> None:
    """Show the error's traceback."""
    show_note("".join(traceback.format_exception(error)).rstrip(), connection_strings)
