"""What ``xmin-assets status --format prometheus`` prints: the state of every copy as metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xmin_assets.replication.manifests.merge import MergedTarget
from xmin_assets.replication.status import SourceStatus, TableStatus


def metrics(statuses: Sequence[TableStatus], source: SourceStatus) -> str:
    """Return the metrics of these tables in Prometheus' text format.

    Args:
        statuses: of each table.
        source: what holds the watermarks back.
    """
    registry = CollectorRegistry()
    registry.register(_Statuses(statuses, source))
    return generate_latest(registry).decode()


class _Statuses(Collector):
    def __init__(self, statuses: Sequence[TableStatus], source: SourceStatus) -> None:
        self._statuses, self._source = statuses, source
        self._now = datetime.now(timezone.utc)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._of_tables()
        yield from self._of_source()

    def _of_tables(self) -> Iterator[GaugeMetricFamily]:
        every = self._statuses
        synced = [(one, one.state) for one in every if one.state]
        verified = [(one, one.verified) for one in every if one.verified]
        yield _family("up", "Whether the target tells the state of the table.", ((o, o.error is None) for o in every))
        yield _family("sync_failed", "Whether the last sync has failed.", ((o, o.failed is not None) for o in every))
        yield _family(
            "needs_full_sync",
            "Whether the next sync reads the whole table.",
            ((one, one.state is None or one.state.resync is not None) for one in every),
        )
        yield _family(
            "lag_seconds",
            "Age of the copy: the time since the snapshot that it equals.",
            ((one, (self._now - (one.as_of or state.merged_at)).total_seconds()) for one, state in synced),
        )
        yield _family(
            "last_sync_timestamp_seconds",
            "When the last sync was merged.",
            ((one, state.merged_at.timestamp()) for one, state in synced),
        )
        yield _family(
            "rows", "Rows that the target shares with the source.", ((one, state.rows) for one, state in synced)
        )
        ahead = [(one, self._source.transactions_above(state)) for one, state in synced]
        if self._source.next_xid:
            yield _family(
                "transactions_behind",
                "Transactions that the source has begun above the table's watermark.",
                ((one, transactions) for one, transactions in ahead if transactions is not None),
            )
        yield _family(
            "last_sync_seconds",
            "What the last sync took, by station.",
            ((one, seconds, station) for one, _ in synced for station, seconds in one.steps.items()),
            "station",
        )
        yield _family(
            "last_sync_rows",
            "What the last sync did to rows.",
            ((one, rows, change) for one, _ in synced if one.last for change, rows in _changes(one.last)),
            "change",
        )
        yield _family(
            "last_verify_timestamp_seconds",
            "When the target was last compared with the source.",
            ((one, found.at.timestamp()) for one, found in verified),
        )
        yield _family(
            "last_verify_matched",
            "Whether that comparison found the rows that the last sync had left.",
            ((one, found.matched) for one, found in verified),
        )

    def _of_source(self) -> Iterator[GaugeMetricFamily]:
        held_back = self._source.held_back
        yield GaugeMetricFamily(
            "xmin_assets_source_up", "Whether the source tells of its open transactions.", float(held_back is not None)
        )
        if held_back is None:
            return
        yield GaugeMetricFamily(
            "xmin_assets_held_back_seconds",
            "Age of the source's oldest open transaction that holds watermarks back.",
            held_back.seconds,
        )
        yield GaugeMetricFamily(
            "xmin_assets_held_back_transactions",
            "Transactions begun at the source since that one.",
            held_back.transactions,
        )


def _family(
    name: str, text: str, samples: Iterable[tuple[TableStatus, float] | tuple[TableStatus, float, str]], *label: str
) -> GaugeMetricFamily:
    """Return a metric of these tables; a sample has the value of the further label last, if there is one."""
    family = GaugeMetricFamily(f"xmin_assets_{name}", text, labels=("table", "target", *label))
    for one, value, *further in samples:
        family.add_metric((one.table, one.target, *further), value)
    return family


def _changes(last: MergedTarget) -> Iterator[tuple[str, int]]:
    yield "extracted", last.rows_extracted
    yield "inserted", last.inserted
    yield "updated", last.updated
    yield "deleted", last.deleted
