"""Asset checks: what is known of a table's health, with what to do about it.

Those of source_snapshot and staged_table come with the asset's own run. That of merged_target compares the target
with the source, which reads both; it has a job and a schedule of its own.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of the functions below as they are.

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    DagsterInstance,
    MetadataValue,
    TimestampMetadataValue,
    asset_check,
)
from dagster._core.storage.asset_check_execution_record import COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES

from xmin_assets.config import ReplicationConfig, Severity, TableConfig, duration
from xmin_assets.config.checks import EqualityCheck
from xmin_assets.orchestration.failures import spool_errors
from xmin_assets.orchestration.metadata import Metadata, script
from xmin_assets.orchestration.names import names_of
from xmin_assets.orchestration.resources import settings_of
from xmin_assets.orchestration.run_log import progress_lines
from xmin_assets.orchestration.termination import terminable
from xmin_assets.replication.manifests.merge import StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.planning import held_back
from xmin_assets.replication.runtime.databases import open_databases
from xmin_assets.replication.status import comparison_basis
from xmin_assets.replication.verification.verify import TableVerification, verify_table

ROWS = "rows_are_complete"
KEY = "key_identifies_rows"
WRAPAROUND = "far_from_wraparound"
HELD_BACK = "watermark_is_not_held_back"
SCHEMA = "columns_match_the_target"
EQUAL = "target_equals_source"

_VERIFIED_AT = "verified_at"
_BASIS = "digest_of_what_was_compared"
_FOUND = "found_then"


def snapshot_specs(config: ReplicationConfig, asset: AssetKey) -> list[AssetCheckSpec]:
    """Return the checks that a plan answers."""
    checks = config.checks
    described = {
        WRAPAROUND: (
            checks.wraparound.enabled,
            (
                f"The source's oldest transaction is under {checks.wraparound.transactions:,} transactions old. If it "
                "fails: look for what keeps VACUUM from freezing at the source (old transactions, replication slots, "
                "prepared transactions), and vacuum there. Replication itself does not stop at the wraparound."
            ),
        ),
        HELD_BACK: (
            checks.held_back.enabled,
            (
                f"No transaction has been open at the source for {duration(config.settings.held_back_warning)}. If it "
                "fails: commit, roll back or end the transactions that are named. Nothing is lost meanwhile, but every "
                "sync reads again what was changed since they began."
            ),
        ),
        SCHEMA: (
            checks.schema_drift.enabled,
            (
                "The target's columns and types are the source's. If it fails: the statements are what this sync does "
                "about it, unless schema_changes is fail."
            ),
        ),
    }
    return [AssetCheckSpec(name, asset=asset, description=text) for name, (on, text) in described.items() if on]


def snapshot_results(config: ReplicationConfig, asset: AssetKey, made: SourceSnapshot) -> list[AssetCheckResult]:
    """Return what a plan says about the source."""
    checks, results = config.checks, []
    if checks.wraparound.enabled:
        passed = made.oldest_age < checks.wraparound.transactions
        results.append(
            _result(asset, WRAPAROUND, passed, checks.wraparound.severity, {"age_transactions": made.oldest_age})
        )
    if checks.held_back.enabled:
        warning = held_back.warning(made.held_back, config.settings.held_back_warning)
        facts = {"transactions": made.held_back.transactions, "by": warning or held_back.held_back_text(made.held_back)}
        results.append(_result(asset, HELD_BACK, warning is None, checks.held_back.severity, facts))
    if checks.schema_drift.enabled:
        changes = made.plan.statements if made.target_oid is not None else ()
        facts = {"changes": len(changes), **({"statements": script(changes)} if changes else {})}
        results.append(_result(asset, SCHEMA, not changes, checks.schema_drift.severity, facts))
    return results


def staged_specs(asset: AssetKey) -> list[AssetCheckSpec]:
    """Return the checks that stand between a staged table and its merge."""
    return [
        AssetCheckSpec(
            ROWS,
            asset=asset,
            blocking=True,
            description="As many rows were loaded as were extracted. If it fails: a file of the spool was changed or "
            "cut, or the target server was restarted; materialize the table from source_snapshot again. Left out of a "
            "run, it is not reported, but what it looks at stops the run all the same.",
        ),
        AssetCheckSpec(
            KEY,
            asset=asset,
            blocking=True,
            description="The key is unique and nowhere NULL. If it fails: name columns that identify a row with key:, "
            "or mend the rows at the source. Left out of a run, it is not reported, but what it looks at stops the run "
            "all the same.",
        ),
    ]


def staged_results(asset: AssetKey, made: StagedTable) -> list[AssetCheckResult]:
    """Return what was found of a staged table that may be merged."""
    extract = made.extract
    keys = sum(part.rows for part in extract.key_parts or ())
    facts = {"rows_loaded": made.rows, "rows_extracted": extract.rows, "keys_loaded": made.keys, "keys_extracted": keys}
    key = ", ".join(extract.snapshot.target_selection.key) or "none: the contents are replaced as a whole"
    return [
        _result(asset, ROWS, (made.rows, made.keys) == (extract.rows, keys), "ERROR", facts),
        _result(asset, KEY, True, "ERROR", {"key": key, "rows": made.rows}),
    ]


def staged_failure(asset: AssetKey, reason: str, *, key: bool) -> AssetCheckResult:
    """Return what was found of a staged table that may not be merged.

    Args:
        asset: the staged table.
        reason: the engine's error.
        key: whether it is about the key, or about the number of rows.
    """
    return _result(asset, KEY if key else ROWS, False, "ERROR", {"reason": reason}, reason)


def equality_check(config: ReplicationConfig, table: TableConfig, asset: AssetKey) -> AssetChecksDefinition:
    """Return the check of a merged target that it equals the source.

    Args:
        config: has the check's settings.
        table: the table.
        asset: its merged_target.
    """
    said = config.checks.target_equals_source
    settings_key = names_of(config).settings
    sample = "" if said.sample is None else f" A sample of {said.sample:.0%} of the rows is compared."

    @asset_check(
        asset=asset,
        name=EQUAL,
        required_resource_keys={settings_key},
        description=f"The target's rows are the source's, except for what the source changed since the last sync."
        f"{sample} If it fails: run `xmin-assets resync {table.label}` and materialize the table; the next sync then "
        "compares every row and writes only those that differ. A "
        "failure stands until the check is executed again. Along with a materialization a good result stands for "
        f"{duration(said.every)}, as long as the source, the target and the configuration are the same.",
    )
    def check(context: AssetCheckExecutionContext) -> AssetCheckResult:
        # Whoever asks for the check alone, by its job or in the UI, wants the rows read: a nightly schedule would
        # find last night's result a little less than a day old.
        together = asset in context.job_def.asset_layer.executable_asset_keys
        with spool_errors():
            settings = settings_of(context.resources, settings_key)
            report = progress_lines(context.log.info)
            with open_databases(config, settings) as (source, target):
                basis = comparison_basis(target, table)
                if together:
                    last = _last_comparison(context.instance, AssetCheckKey(asset, EQUAL))
                    stands = last and _as_it_stands(last, said, basis)
                    if stands:
                        context.log.info(stands.description)
                        return stands
                found = terminable(
                    lambda: verify_table(source, target, table, settings, sample=said.sample, on_progress=report)
                )
        return _verified(asset, found, said.severity, basis)

    return check


def standing_evaluation(
    context: AssetExecutionContext, config: ReplicationConfig, asset: AssetKey, basis: Callable[[], str]
) -> AssetCheckEvaluation | None:
    """Return what was last found of a merged target, to stand for what a run has just made of it.

    Dagster's pages show a check as not evaluated from the next materialization on. What failed has failed until it is
    compared again, and what was good stands as long as the configuration says.

    Args:
        context: of the step that merges.
        config: has the check's settings.
        asset: the merged target.
        basis: asks what a comparison rests on now, for which the target is looked at.
    """
    said, key = config.checks.target_equals_source, AssetCheckKey(asset, EQUAL)
    if not said.enabled or any(key in data.assets_def.check_keys for data in context.job_def.asset_layer.data):
        return None
    found = _last_comparison(context.instance, key)
    if found is None:
        return None
    result = _as_it_stands(found, said, basis()) if found.passed else _still_failed(found)
    return result and AssetCheckEvaluation(
        asset_key=asset,
        check_name=EQUAL,
        passed=result.passed,
        metadata=result.metadata or {},
        severity=result.severity,
        description=result.description,
    )


def selected(context: AssetExecutionContext, found: Sequence[AssetCheckResult]) -> Iterator[AssetCheckResult]:
    """Return the results that a run has asked for; checks may be left out of a selection.

    What guards a merge is looked at in any case, and stops it in any case: it is only not reported as a check then.
    """
    for result in found:
        assert result.asset_key is not None
        assert result.check_name is not None
        if AssetCheckKey(result.asset_key, result.check_name) in context.selected_asset_check_keys:
            yield result


def _last_comparison(instance: DagsterInstance, key: AssetCheckKey) -> AssetCheckEvaluation | None:
    # Runs that ended before they had compared anything have found nothing, however many there were.
    records = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
    )
    found = next((record.evaluation for record in records), None)
    return found if found and _VERIFIED_AT in found.metadata else None


def _as_it_stands(found: AssetCheckEvaluation, said: EqualityCheck, basis: str) -> AssetCheckResult | None:
    """Return a good result as it stands now, if it is young enough, of the same source, target and settings."""
    verified_at = found.metadata[_VERIFIED_AT]
    age = datetime.now(timezone.utc).timestamp() - _seconds(verified_at)
    known = found.metadata.get(_BASIS)
    if not found.passed or age >= said.every or known is None or known.value != basis:
        return None
    # What was counted then is not said of what is there now.
    return AssetCheckResult(
        passed=True,
        asset_key=found.asset_key,
        check_name=found.check_name,
        metadata={_VERIFIED_AT: verified_at, _BASIS: basis},
        description=f"As of {_when(verified_at)}: not compared again since. A good result stands for "
        f"{duration(said.every)}; execute the check alone to compare now.",
    )


def _still_failed(found: AssetCheckEvaluation) -> AssetCheckResult:
    """Return a failure as it stands: until source and target are compared again."""
    verified_at = found.metadata[_VERIFIED_AT]
    of_then = found.metadata.get(_FOUND)
    then = str(of_then.value) if of_then else found.description or ""
    return AssetCheckResult(
        passed=False,
        asset_key=found.asset_key,
        check_name=found.check_name,
        severity=found.severity,
        metadata={_VERIFIED_AT: verified_at, _FOUND: then},
        description=f"As of {_when(verified_at)}: {then} The table was synced since; this stands until it is compared "
        "again. Execute the check to compare now.",
    )


def _when(verified_at: MetadataValue[Any]) -> str:
    return f"{datetime.fromtimestamp(_seconds(verified_at), timezone.utc):%Y-%m-%d %H:%M} UTC"


def _seconds(timestamp: MetadataValue[Any]) -> float:
    assert isinstance(timestamp, TimestampMetadataValue)
    return timestamp.value


def _verified(asset: AssetKey, found: TableVerification, severity: Severity, basis: str) -> AssetCheckResult:
    facts: Metadata = {
        _VERIFIED_AT: MetadataValue.timestamp(datetime.now(timezone.utc)),
        _BASIS: basis,
        "rows_missing": found.missing,
        "rows_extra": found.extra,
        "rows_different": found.different,
        "rows_pending": found.pending,
        "rows_at_source": found.rows_source,
        "rows_in_target": found.rows_target,
        "seconds": found.seconds,
    }
    examples = "\n".join(_examples(found))
    if examples:
        facts["examples"] = MetadataValue.md(examples)
    if found.note:
        facts["note"] = found.note
    passed = found.status == "match"
    counts = (
        f"{found.missing:,} missing, {found.extra:,} extra, {found.different:,} different, {found.pending:,} pending"
    )
    return _result(asset, EQUAL, passed, severity, facts, f"{found.rows_target:,} rows compared: {counts}.")


def _examples(found: TableVerification) -> Iterator[str]:
    for kind, keys in found.examples.items():
        for key in keys:
            yield f"- {kind}: " + ", ".join(f"`{name}` = `{value}`" for name, value in key.items())


def _result(
    asset: AssetKey, name: str, passed: bool, severity: Severity, facts: Metadata, description: str | None = None
) -> AssetCheckResult:
    return AssetCheckResult(
        passed=passed,
        asset_key=asset,
        check_name=name,
        severity=AssetCheckSeverity(severity),
        metadata=facts,
        description=description,
    )
