"""What each station's materialization shows in the UI, made from its manifest alone.

Dagster plots a key only as far as the latest event has it, so every number is there on every run, also when
nothing changed. A number that does not exist yet, such as the first sync's watermark, is 0. Those about changed blocks
are there when these were looked up. A number's key ends in its unit, unless it begins with what is counted.
"""

from __future__ import annotations

from typing import Any

from dagster import (
    AssetKey,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
)

from xmin_assets.config import duration
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.plan import Plan, PlannedLoad, SourceSnapshot
from xmin_assets.replication.manifests.table import Comments, Selection
from xmin_assets.replication.planning import held_back
from xmin_assets.replication.planning.load_plan import load_text
from xmin_assets.replication.runtime.units import bytes_text
from xmin_assets.replication.schema.metadata_columns import metadata_columns

Metadata = dict[str, Any]


def of_source_snapshot(made: SourceSnapshot, upstream: AssetKey) -> Metadata:
    """Return what is going to be read, and why."""
    return {
        "xmin_assets/summary": f"about {made.rows_estimate:,} rows at the source, {bytes_text(made.bytes)}",
        **_decision(made.plan.mode.value, made.plan.reason),
        **column_schema(made.target_selection, made.comments),
        **_lineage(made.target_selection, upstream),
        "xmin_assets/key": key_text(made.target_selection),
        "xmin_assets/watermark_xid": made.plan.watermark or 0,
        "xmin_assets/horizon_xid": made.horizon,
        "xmin_assets/max_xmin": made.state.max_xmin if made.state else 0,
        "xmin_assets/held_back_transactions": made.held_back.transactions,
        "xmin_assets/held_back_seconds": made.held_back.seconds,
        "xmin_assets/held_back": held_back.held_back_text(made.held_back),
        "xmin_assets/path": made.plan.blocks_read,
        "xmin_assets/rows_estimate": made.rows_estimate,
        "xmin_assets/table_bytes": made.bytes,
        **_load(made.load),
        "xmin_assets/seconds": round(made.seconds, 3),
        "xmin_assets/sync_id": made.sync_id,
        **_statements(made.plan),
    }


def _load(load: PlannedLoad | None) -> Metadata:
    """Return how far a load by chunks is when the sync is planned."""
    if load is None:
        return {}
    return {
        "xmin_assets/load": load_text(load),
        "xmin_assets/chunks": load.chunks,
        "xmin_assets/loaded_bytes": load.loaded_bytes,
        "xmin_assets/loaded_rows": load.loaded_rows,
    }


def of_csv_extract(made: CsvExtract, upstream: AssetKey) -> Metadata:
    """Return what was read."""
    snapshot = made.snapshot.asked_for
    return {
        "xmin_assets/summary": f"{made.rows:,} rows read, {bytes_text(made.bytes)} in {duration(made.seconds)}",
        **_decision(snapshot.plan.mode.value, snapshot.plan.reason),
        **column_schema(snapshot.target_selection, snapshot.comments),
        **_lineage(snapshot.target_selection, upstream),
        **({"dagster/uri": made.parts[0].uri.rpartition("/")[0]} if made.parts else {}),
        "xmin_assets/watermark_xid": made.horizon,
        "xmin_assets/max_xmin": max(made.max_xmin, _max_xmin_before(snapshot)),
        "xmin_assets/rows_extracted": made.rows,
        "xmin_assets/rows_at_source": _rows_at_source(made),
        "xmin_assets/bytes": made.bytes,
        "xmin_assets/key_bytes": made.key_bytes,
        "xmin_assets/files": len(made.parts),
        "xmin_assets/path": made.blocks_read,
        **_blocks(made),
        "xmin_assets/workers": made.workers,
        "xmin_assets/seconds": round(made.seconds, 3),
        "xmin_assets/sync_id": snapshot.sync_id,
    }


def of_staged_table(made: StagedTable, upstream: AssetKey) -> Metadata:
    """Return what was loaded."""
    extract, planned = made.extract, made.extract.snapshot.asked_for
    selection = planned.target_selection
    return {
        "xmin_assets/summary": f"{made.rows:,} rows loaded in {duration(made.seconds)}",
        **_decision(planned.plan.mode.value, planned.plan.reason),
        **column_schema(selection, planned.comments, own=True),
        **_lineage(selection, upstream),
        **({"dagster/table_name": f"xmin_assets.{made.name}"} if made.name else {}),
        "dagster/row_count": made.rows,
        "xmin_assets/watermark_xid": extract.horizon,
        "xmin_assets/max_xmin": max(extract.max_xmin, _max_xmin_before(planned)),
        "xmin_assets/rows_loaded": made.rows,
        "xmin_assets/keys_loaded": made.keys,
        "xmin_assets/bytes": extract.bytes,
        "xmin_assets/seconds": round(made.seconds, 3),
        "xmin_assets/sync_id": planned.sync_id,
    }


def of_merged_target(made: MergedTarget, staged: StagedTable, upstream: AssetKey) -> Metadata:
    """Return what changed in the target."""
    extract, planned = staged.extract, staged.extract.snapshot.asked_for
    selection = planned.target_selection
    in_all = planned.seconds + extract.seconds + staged.seconds + made.seconds
    return {
        "xmin_assets/summary": f"{changes(made)}; {bytes_text(made.bytes_extracted)} read; {duration(in_all)} in all",
        **_decision(made.mode.value, made.reason),
        **column_schema(selection, planned.comments, own=True),
        **_lineage(selection, upstream),
        **({"xmin_assets/comment": planned.comments.table} if planned.comments.table else {}),
        "xmin_assets/key": key_text(selection),
        "dagster/row_count": made.rows,
        "xmin_assets/rows_extracted": made.rows_extracted,
        "xmin_assets/rows_inserted": made.inserted,
        "xmin_assets/rows_updated": made.updated,
        "xmin_assets/rows_deleted": made.deleted,
        "xmin_assets/rows_unchanged": made.unchanged,
        "xmin_assets/watermark_xid": made.watermark,
        "xmin_assets/watermark_before_xid": made.watermark_before or 0,
        "xmin_assets/max_xmin": made.max_xmin,
        "xmin_assets/held_back_transactions": planned.held_back.transactions,
        "xmin_assets/bytes": made.bytes_extracted,
        "xmin_assets/seconds": round(made.seconds, 3),
        "xmin_assets/sync_seconds": round(in_all, 3),
        "xmin_assets/sync_id": made.sync_id,
        **({"xmin_assets/repeated": True} if made.repeated else {}),
    }


def changes(made: MergedTarget) -> str:
    """Return what the merge did to the target's rows, in words."""
    if made.repeated:
        return "this sync had been merged before; nothing was done"
    return (
        f"{made.inserted:,} inserted, {made.updated:,} updated, {made.deleted:,} deleted, "
        f"{made.unchanged:,} unchanged; {made.rows:,} rows"
    )


def _rows_at_source(made: CsvExtract) -> int:
    """Return the rows as counted, else as many as the last sync knew of, so that a plot has no gap."""
    if made.source_rows is not None:
        return made.source_rows
    return made.snapshot.state.rows if made.snapshot.state else made.rows


def _blocks(made: CsvExtract) -> Metadata:
    """Return what the map of changed blocks has spared; nothing where there was none, and all blocks were read."""
    found, state = made.block_map, made.snapshot.state
    if found is None:
        return {}
    scan = state.scan_seconds if state else 0.0
    return {
        "xmin_assets/blocks_changed": found.changed,
        "xmin_assets/blocks_at_source": found.in_all,
        "xmin_assets/wal_bytes": found.wal_bytes,
        # As long as no sync has read the whole table, nobody knows how long that takes.
        **({"xmin_assets/seconds_saved": round(max(0.0, scan - made.seconds), 3)} if scan else {}),
    }


def _decision(mode: str, reason: str) -> Metadata:
    return {"xmin_assets/mode": mode, "xmin_assets/reason": reason}


def _max_xmin_before(snapshot: SourceSnapshot) -> int:
    """Return the highest xid seen by earlier syncs, which counts on as long as this one reads only changes."""
    return snapshot.state.max_xmin if snapshot.state and snapshot.plan.watermark is not None else 0


def _statements(plan: Plan) -> Metadata:
    return {"xmin_assets/statements": script(plan.statements)} if plan.statements else {}


def script(statements: tuple[str, ...]) -> MetadataValue[Any]:
    """Return statements as people read them."""
    lines = "\n".join(f"{statement};" for statement in statements)
    return MetadataValue.md(f"```sql\n{lines}\n```")


def key_text(selection: Selection) -> str:
    """Return the key's columns, for people."""
    return ", ".join(selection.key) or "none: the contents are compared and replaced as a whole"


def column_schema(selection: Selection, comments: Comments, *, own: bool = False) -> Metadata:
    """Return the columns of a table; with those that this project adds to a target, where `own` says so."""
    said = dict(comments.columns)
    plain, in_key = TableColumnConstraints(), TableColumnConstraints(nullable=False, other=["key"])
    columns = [
        TableColumn(
            column.name,
            column.type,
            description=said.get(column.name),
            constraints=in_key if column.name in selection.key else plain,
        )
        for column in selection.columns
    ]
    if own:
        columns += [TableColumn(name, type_, "made by xmin_assets") for name, type_ in metadata_columns(selection)]
    return {"dagster/column_schema": TableSchema(columns)}


def _lineage(selection: Selection, upstream: AssetKey) -> Metadata:
    deps = {column.name: [TableColumnDep(upstream, column.name)] for column in selection.columns}
    return {"dagster/column_lineage": TableColumnLineage(deps)}
