"""What a difference between source and target means. Pure: rows in, counts and examples out, no connection.

W is the watermark of the last merged sync. A row version at the source whose xid64 is below W was seen by that sync, so
the target must have it; what is at or above W, the next sync reads anyway. A row that only the target has was deleted
at the source since, or should never have been there: it is unexpected. Nothing at the source says which, but the number
of rows does (docs/correctness.md, "Verify").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from xmin_assets.replication.state.history import MergeXids

EXAMPLES = 5
"""Keys that are named per kind of difference."""

COMMON = 0.1
"""Share of the rows that both sides have above which it means nothing that somebody else has written them."""

Key = tuple[str, ...]

DifferenceKind = Literal["missing", "extra", "different", "pending"]


class SourceRow(NamedTuple):
    """A row of the source, beside its key."""

    hash: int
    xid64: int | None
    """None where transaction ids mean nothing."""
    is_fresh: bool | None
    """Whether it is in a partition that was attached since the last sync: then it is new whatever its xid64 is. None
    if it is in a relation that no sync knows of."""
    is_sought: bool = True
    """Whether the next sync reads it if it is new. A cursor does not show all changes."""


class TargetRow(NamedTuple):
    """A row of the target, beside its key."""

    hash: int
    source_xmin: int | None
    xid64: int
    """The target's transaction that wrote the row there."""


@dataclass
class Tally:
    """How many, and the keys of the first of them."""

    count: int = 0
    keys: list[Key] = field(default_factory=list)

    def add(self, key: Key) -> None:
        """Count one more."""
        self.count += 1
        if len(self.keys) < EXAMPLES:
            self.keys.append(key)


@dataclass(frozen=True)
class Rules:
    """What decides how a difference is classified."""

    watermark: int | None
    """None where the last sync's means nothing: then nothing is pending."""
    next_compares_values: bool
    """Whether the next sync mends values that differ under the same source_xmin, where it reads the row."""
    merges: MergeXids
    keeps_deleted: bool
    """Whether rows that only the target has are as they should be (`deletes: ignore`)."""
    none_deleted: bool = False
    """Whether no row that the last sync left in the target can have gone from the source since."""


@dataclass(frozen=True)
class Classification:
    """What the differences are."""

    tallies: dict[DifferenceKind, Tally]
    is_vague: bool
    """Whether it is known how many of the rows that only the target has are extra, but not which."""


class DifferenceClassifier:
    """Collects the rows that differ, one by one, and says in the end what they are."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._missing = Tally()
        self._different = Tally()
        self._to_come = Tally()  # inserted at the source since the last sync
        self._to_change = Tally()
        self._unattributed = Tally()  # only in the target, and not from the source
        self._suspect = Tally()  # only in the target, and written by somebody else
        self._lone = Tally()  # only in the target, nothing else is known
        self._shared = 0
        self._shared_foreign = 0

    def only_at_source(self, key: Key, row: SourceRow) -> None:
        """Take note of a row that the target lacks."""
        # A sync that does not read the row finds by the numbers that it is missing, unless deleted ones are kept.
        brought = row.is_sought or not self._rules.keeps_deleted
        (self._to_come if self._is_new(row) and brought else self._missing).add(key)

    def on_both_sides(self, key: Key, source_row: SourceRow, target_row: TargetRow) -> None:
        """Take note of a key that both sides have."""
        self._shared += 1
        self._shared_foreign += self._rules.merges.foreign(target_row.xid64)
        if source_row.hash == target_row.hash:
            return
        # A merge writes rows whose source_xmin differs: of values that differ under the same one it takes no notice.
        mended = self._rules.next_compares_values or source_row.is_fresh or source_row.xid64 != target_row.source_xmin
        is_pending = self._is_new(source_row) and source_row.is_sought and mended
        (self._to_change if is_pending else self._different).add(key)

    def only_in_target(self, key: Key, row: TargetRow) -> None:
        """Take note of a row that the source does not have."""
        if self._rules.keeps_deleted:
            return
        if row.source_xmin is None:
            self._unattributed.add(key)
        elif self._rules.merges.foreign(row.xid64):
            self._suspect.add(key)
        else:
            self._lone.add(key)

    def classify(self, known: int, present: int | None) -> Classification:
        """Say what the differences are.

        Args:
            known: rows that the last sync left in the target.
            present: rows that the target has now; None if they were not all read.
        """
        unexpected = self._unexpected(known, present)
        surest = (self._unattributed, self._suspect, self._lone)
        named: list[Key] = []
        left, vague = unexpected, False
        for tally in surest:
            if 0 < left < tally.count:
                vague = True  # some of these, and nothing sets them apart
            elif left:
                named += tally.keys
            left -= min(left, tally.count)
        extra = Tally(unexpected, named[:EXAMPLES])
        gone = Tally(sum(tally.count for tally in surest) - unexpected)
        if not vague:
            gone.keys = [key for tally in surest for key in tally.keys if key not in named]
        pending = (self._to_come, self._to_change, gone)
        return Classification(
            {
                "missing": self._missing,
                "extra": extra,
                "different": self._different,
                "pending": Tally(
                    sum(tally.count for tally in pending), [key for tally in pending for key in tally.keys][:EXAMPLES]
                ),
            },
            is_vague=vague,
        )

    def _is_new(self, row: SourceRow) -> bool:
        watermark = self._rules.watermark
        if watermark is None or row.xid64 is None:
            return False
        return bool(row.is_fresh) or row.xid64 >= watermark

    def _unexpected(self, known: int, present: int | None) -> int:
        """Return how many of the rows that only the target has should never have been there."""
        certain, suspected = self._unattributed.count, self._unattributed.count + self._suspect.count
        lone = suspected + self._lone.count
        if self._rules.watermark is None or self._rules.none_deleted:
            return lone
        # Only what is rare is remarkable: somebody may have rewritten the whole table.
        credible = self._shared_foreign <= COMMON * self._shared
        if present is None:
            return suspected if credible else certain
        least = max(0, present - known + self._missing.count)
        if credible and least <= suspected <= least + self._to_come.count:
            return suspected
        return max(certain, min(least, lone))
