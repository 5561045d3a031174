"""What ``xmin-assets status --format prometheus`` prints: the state of every copy as metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xmin_assets.replication.status import SourceStatus, TableStatus

_LABELS = ("table", "target")


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
        synced = [one for one in self._statuses if one.state]
        yield self._family("up", "Whether the target tells the state of the table.", self._statuses, _is_known)
        yield self._family(
            "sync_failed",
            "Whether the last sync has failed.",
            self._statuses,
            lambda one: float(one.failed is not None),
        )
        yield self._family(
            "needs_full_sync",
            "Whether the next sync reads the whole table.",
            self._statuses,
            lambda one: float(one.state is None or one.state.resync is not None),
        )
        yield self._family(
            "lag_seconds",
            "Age of the copy: the time since the snapshot that it equals.",
            synced,
            lambda one: (self._now - (one.as_of or _merged_at(one))).total_seconds(),
        )
        yield self._family(
            "last_sync_timestamp_seconds",
            "When the last sync was merged.",
            synced,
            lambda one: _merged_at(one).timestamp(),
        )
        yield self._family("rows", "Rows that the target shares with the source.", synced, _rows)
        if self._source.next_xid:
            yield self._family(
                "transactions_behind",
                "Transactions that the source has begun above the table's watermark.",
                synced,
                lambda one: float(max(0, self._source.next_xid - (one.state.watermark if one.state else 0))),
            )
        yield self._steps(synced)
        yield self._changes(synced)
        verified = [one for one in self._statuses if one.verified]
        yield self._family(
            "last_verify_timestamp_seconds",
            "When the target was last compared with the source.",
            verified,
            lambda one: one.verified.at.timestamp() if one.verified else 0.0,
        )
        yield self._family(
            "last_verify_matched",
            "Whether that comparison found the rows that the last sync had left.",
            verified,
            lambda one: float(one.verified is not None and one.verified.matched),
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
        self, name: str, text: str, statuses: Iterable[TableStatus], value: Callable[[TableStatus], float]
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"xmin_assets_{name}", text, labels=_LABELS)
        for one in statuses:
            family.add_metric((one.table, one.target), value(one))
        return family

    def _steps(self, synced: Iterable[TableStatus]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "xmin_assets_last_sync_seconds", "What the last sync took, by station.", labels=(*_LABELS, "station")
        )
        for one in synced:
            for station, seconds in one.steps.items():
                family.add_metric((one.table, one.target, station), seconds)
        return family

    def _changes(self, synced: Iterable[TableStatus]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "xmin_assets_last_sync_rows", "What the last sync did to rows.", labels=(*_LABELS, "change")
        )
        for one in synced:
            if one.last:
                done = {"inserted": one.last.inserted, "updated": one.last.updated, "deleted": one.last.deleted}
                for change, rows in {"extracted": one.last.rows_extracted, **done}.items():
                    family.add_metric((one.table, one.target, change), rows)
        return family


def _is_known(one: TableStatus) -> float:
    return float(one.error is None)


def _rows(one: TableStatus) -> float:
    return float(one.state.rows if one.state else 0)


def _merged_at(one: TableStatus) -> datetime:
    assert one.state
    return one.state.merged_at
