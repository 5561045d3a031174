"""What becomes of target rows whose source row was deleted, and how often these are looked for.

Whatever a mode decides is a property here, so a new mode is thought of in one place: each property matches every mode,
and mypy reports the one that is missing.
"""

from __future__ import annotations

from enum import Enum


class Deletes(str, Enum):
    """What becomes of a target row when its source row is deleted."""

    HARD = "hard"
    """The row is deleted."""
    SOFT = "soft"
    """The row stays, with the time in `deleted_at_column`."""
    IGNORE = "ignore"
    """The row stays as it is."""

    @property
    def detects(self) -> bool:
        """Whether syncs look for rows that were deleted at the source."""
        match self:
            case Deletes.HARD | Deletes.SOFT:
                return True
            case Deletes.IGNORE:
                return False

    @property
    def removes(self) -> bool:
        """Whether such a row leaves the target table."""
        match self:
            case Deletes.HARD:
                return True
            case Deletes.SOFT | Deletes.IGNORE:
                return False

    @property
    def marks(self) -> bool:
        """Whether such a row stays and is marked, so that the target's other rows are the source's."""
        match self:
            case Deletes.SOFT:
                return True
            case Deletes.HARD | Deletes.IGNORE:
                return False

    @property
    def keeps(self) -> bool:
        """Whether such a row stays and nothing tells it from the others."""
        match self:
            case Deletes.IGNORE:
                return True
            case Deletes.HARD | Deletes.SOFT:
                return False


class DeleteDetection(str, Enum):
    """When syncs look for deleted rows, where it is not once in an interval."""

    EVERY_SYNC = "every_sync"


def interval_of(detection: DeleteDetection | float) -> float | None:
    """Return for how many seconds deleted rows need not be looked for again; None if every sync looks for them."""
    match detection:
        case DeleteDetection.EVERY_SYNC:
            return None
        case float():
            return detection
