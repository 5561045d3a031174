"""What the sensor remembers from one look to the next, as the text that Dagster keeps for it.

A few dozen bytes for each table. Losing it costs one sync of every table: where the copies are is the target's to know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xmin_assets.config import TableConfig
from xmin_assets.replication.change_detection import SyncRequest
from xmin_assets.replication.table_fingerprints import TableFingerprint

VERSION = 1


@dataclass(frozen=True)
class SensorCursor:
    """The last request for each table, and how often the databases have not answered since they last did."""

    requested: Mapping[str, SyncRequest] = field(default_factory=dict)
    """By the target's name, which no two tables share."""
    failures: int = 0
    failed_at: float = 0.0
    """When they last did not answer, in seconds since 1970."""

    @classmethod
    def read(cls, text: str | None) -> SensorCursor:
        """Return the cursor that the text holds; an empty one if there is none, or another release has written it."""
        try:
            data = json.loads(text or "")
            if data["version"] != VERSION:
                return cls()
            requested = {
                str(name): SyncRequest(
                    TableFingerprint(*map(str, fingerprint)), int(next_xid), int(revision), float(at), int(repeats)
                )
                for name, (fingerprint, next_xid, revision, at, repeats) in data["tables"].items()
            }
            return cls(requested, int(data["failures"]), float(data["failed_at"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def text(self) -> str:
        """Return the cursor as text."""
        tables = {
            name: [
                [
                    known.fingerprint.server,
                    known.fingerprint.configuration,
                    known.fingerprint.storage,
                    known.fingerprint.columns,
                    known.fingerprint.counts,
                ],
                known.next_xid,
                known.revision,
                int(known.at),
                known.repeats,
            ]
            for name, known in self.requested.items()
        }
        data = {"version": VERSION, "failures": self.failures, "failed_at": int(self.failed_at), "tables": tables}
        return json.dumps(data, separators=(",", ":"))

    def of(self, table: TableConfig) -> SyncRequest | None:
        """Return what is remembered of this table."""
        return self.requested.get(str(table.target_name))

    def of_these(self, tables: Iterable[TableConfig], now: Mapping[TableConfig, SyncRequest]) -> SensorCursor:
        """Return the cursor after a successful probe: with the new requests, and without tables that are gone."""
        kept = {table: now.get(table) or self.of(table) for table in tables}
        return SensorCursor({str(table.target_name): known for table, known in kept.items() if known})
