"""What the sensor remembers from one look to the next, as the text that Dagster keeps for it.

A few dozen bytes for each table. Losing it costs one sync of every table: where the copies are is the target's to know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xmin_assets.config import TableConfig
from xmin_assets.replication.change_detection import Asked, Mark

VERSION = 1


@dataclass(frozen=True)
class SensorCursor:
    """The last request for each table, and how often the databases have not answered since they last did."""

    asked: Mapping[str, Asked] = field(default_factory=dict)
    """By the target's name, which no two tables share."""
    failures: int = 0
    failed_at: float = 0.0
    """When they last did not answer, in seconds since 1970."""

    @classmethod
    def read(cls, text: str | None) -> SensorCursor:
        """The cursor that the text holds; an empty one if there is none, or another release has written it."""
        try:
            data = json.loads(text or "")
            if data["version"] != VERSION:
                return cls()
            asked = {
                str(name): Asked(Mark(*map(str, mark)), int(next_xid), int(revision), float(at), int(repeats))
                for name, (mark, next_xid, revision, at, repeats) in data["tables"].items()
            }
            return cls(asked, int(data["failures"]), float(data["failed_at"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def text(self) -> str:
        """The cursor as text."""
        tables = {
            name: [
                [
                    known.mark.server,
                    known.mark.configuration,
                    known.mark.storage,
                    known.mark.columns,
                    known.mark.counts,
                ],
                known.next_xid,
                known.revision,
                int(known.at),
                known.repeats,
            ]
            for name, known in self.asked.items()
        }
        data = {"version": VERSION, "failures": self.failures, "failed_at": int(self.failed_at), "tables": tables}
        return json.dumps(data, separators=(",", ":"))

    def of(self, table: TableConfig) -> Asked | None:
        """What is remembered of this table."""
        return self.asked.get(str(table.target_name))

    def of_these(self, tables: Iterable[TableConfig], now: Mapping[TableConfig, Asked]) -> SensorCursor:
        """The cursor after a look that succeeded: with what is asked for now, and without tables that are gone."""
        kept = {table: now.get(table) or self.of(table) for table in tables}
        return SensorCursor({str(table.target_name): known for table, known in kept.items() if known})
