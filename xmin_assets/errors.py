"""Everything that can go wrong, said to a person.

Two families decide what happens next: a ``TransientError`` may pass when the same thing is tried again, a
``TerminalError`` needs a person first. The message of each says what is wrong and what to do; it never
holds a password, and no traceback is shown with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmin_assets.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence


def printable(text: str) -> str:
    """Return the text with escapes for what a terminal would obey instead of showing it."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class XminAssetsError(Exception):
    """Something went wrong while replicating."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(printable(redact(message) if message else (self.__doc__ or "").strip()))


class TransientError(XminAssetsError):
    """It may work when tried again: a lost connection, a lock, a table that changed meanwhile."""

    attempts = 6
    """How often the work is begun before we give up."""


class TerminalError(XminAssetsError):
    """It will not work until somebody changes something."""


class ConfigError(TerminalError):
    """The configuration or the command is wrong."""


class ServerError(TerminalError):
    """The server refused a statement."""


class ConnectionFailed(TransientError):
    """No connection to the database."""


class ServerFull(ConnectionFailed):
    """The server takes no more connections."""


class ConnectionRefused(TerminalError):
    """The server answers, and does not let us in."""


class Cancelled(TransientError):
    """The sync was stopped before it ended."""

    attempts = 1


class TableBusy(TransientError):
    """Another sync of the table has been at work for longer than we wait."""

    attempts = 1  # it has waited for as long as queue_timeout says


class LockTimeout(TransientError):
    """A lock was not granted in time."""

    attempts = 3  # each of them has waited for as long as lock_timeout says


class UnsupportedServer(TerminalError):
    """The server is older than what this project supports."""


class TableNotFound(TerminalError):
    """The table does not exist, or the role may not see it."""


class UnsupportedTable(TerminalError):
    """The table cannot be replicated as configured."""


class ForeignTarget(TerminalError):
    """The target table exists, has rows, and was not made by this project."""


class NotComparable(TerminalError):
    """The target is not a copy that the last sync has left, so there is nothing to compare it with."""


class SourceBehind(TransientError):
    """The source has not yet replayed what the last sync has already copied."""


class RefusedNow(TransientError):
    """The server refuses what it allowed a moment ago, and is asked for less from now on."""


class PlanOutdated(TransientError):
    """The table changed after the sync was planned."""


class RelationGone(PlanOutdated):
    """A table was dropped or renamed after the sync was planned."""

    attempts = 2  # a new plan says what is the matter


class LoadPaused(TerminalError):
    """A load by chunks waits for the hours in which it may read. What was loaded stays, and the next sync goes on."""


class StaleExtract(TransientError):
    """Another sync merged after this one was planned."""


class TargetDrifted(TransientError):
    """Somebody else changed the rows of the target table."""

    def __init__(self, table: str, found: str, *, cursor: bool = False, triggers: Sequence[str] = ()) -> None:
        self.found = found
        message = (
            f"{table}: {found}. Nothing was merged, and the next sync reads and compares everything. If it was not the "
            "cursor that missed rows, somebody else has changed the target."
            if cursor
            else f"{table}: {found}. Somebody else changed the rows; nothing was merged, and the next sync reads and "
            "compares everything."
        )
        if triggers:
            message += f" Or the target's own code did: {', '.join(triggers)}. Disable it, or set triggers: skip."
        super().__init__(message)


class AlteredByTrigger(TerminalError):
    """A trigger or rule of the target's users changed, swallowed or added rows in a merge."""


class SchemaChangeRefused(TerminalError):
    """The source's columns changed in a way that is not applied."""


class MassDelete(TerminalError):
    """The sync would delete more of the target than is allowed."""


class MassChange(TerminalError):
    """Another source answers, and the sync would change more of the target than is allowed."""


class DataInvalid(TerminalError):
    """Rows break a rule that the copy depends on, such as a unique key."""


class KeyInvalid(DataInvalid):
    """The key is not unique, or NULL somewhere."""


class SpoolError(TerminalError):
    """The spool cannot be used, or a file in it is missing or damaged."""
