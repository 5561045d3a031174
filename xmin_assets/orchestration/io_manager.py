"""What carries the manifests from asset to asset: small JSON files beside the CSV parts in the spool.

An asset's manifests are in ``<spool>/manifests/<asset key>/``: ``<run id>.json`` for the run that made it, and
a copy of the latest in ``latest.json``. A run reads what it made itself, or what was made by the run that it
re-executes, so two runs on one table do not mix. A run that materializes only a later asset reads the latest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetKey,
    DagsterInvariantViolationError,
    Failure,
    InitResourceContext,
    InputContext,
    IOManager,
    IOManagerDefinition,
    OutputContext,
    io_manager,
)

from xmin_assets.orchestration.failures import spool_errors
from xmin_assets.orchestration.resources import ReplicationSettings
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.serialization import from_json, to_json
from xmin_assets.replication.spool.spool import Spool

if TYPE_CHECKING:
    from upath import UPath

KEEP = 50
"""Manifests that are kept of each asset, beside the latest: as many later runs may pass before a re-execution."""

_KINDS = (SourceSnapshot, CsvExtract, StagedTable, MergedTarget)


class ManifestIOManager(IOManager):
    """Stores what the stations return in the spool that the settings name."""

    def __init__(self, settings: ReplicationSettings) -> None:
        self._settings = settings

    def handle_output(self, context: OutputContext, obj: object) -> None:
        """Write the manifest of this run, and make it the latest."""
        key = context.asset_key
        with spool_errors():
            spool = Spool.open(self._settings.to_settings())
            folder = _folder(spool, key)
            spool.make_folder(folder)
            for path in (folder / f"{context.run_id}.json", folder / "latest.json"):
                spool.replace(path, to_json(obj))
            _prune(folder)

    def load_input(self, context: InputContext) -> Any:
        """Return the manifest of the run that this one belongs to, else the latest."""
        kind = context.dagster_type.typing_type
        key = context.asset_key
        if kind not in _KINDS:
            names = ", ".join(known.__name__ for known in _KINDS)
            raise Failure(
                f"The input {key.to_user_string()} needs a type: annotate it with one of {names} "
                "(from xmin_assets.replication.manifest), or use deps instead of an input.",
                allow_retries=False,
            )
        with spool_errors():
            spool = Spool.open(self._settings.to_settings())
            folder = _folder(spool, key)
            for name in (_producer(context), "latest"):
                if name and (path := folder / f"{name}.json").exists():
                    with spool.read(str(path)) as file:
                        return from_json(kind, file.read())
        raise Failure(
            f"There is no manifest of {key.to_user_string()} in the spool {spool.root}. "
            f"Materialize {key.to_user_string()} first.",
            allow_retries=False,
        )


def manifest_io_manager(settings_key: str) -> IOManagerDefinition:
    """Return the definition of a `ManifestIOManager` with the settings of the run.

    Args:
        settings_key: of the resource that has them. A resource nested in a ConfigurableIOManager would have the
            settings' defaults, not what the launchpad says.
    """

    @io_manager(
        required_resource_keys={settings_key}, description="Carries manifests between the assets, in the spool."
    )
    def manifests(context: InitResourceContext) -> ManifestIOManager:
        return ManifestIOManager(getattr(context.resources, settings_key))

    return manifests


def _folder(spool: Spool, key: AssetKey) -> Path | UPath:
    return spool.root.joinpath("manifests", *key.path)


def _producer(context: InputContext) -> str | None:
    """Return the run whose manifest is meant: this one, or the one that it re-executes from its failure."""
    try:
        return context.upstream_output.run_id if context.upstream_output else None
    except DagsterInvariantViolationError:
        return None  # the upstream asset is no part of this run


def _prune(folder: Path | UPath) -> None:
    """Forget the oldest manifests, so that years of runs do not fill the spool."""
    manifests = [path for path in folder.iterdir() if path.suffix == ".json" and path.name != "latest.json"]
    if len(manifests) > KEEP:
        for path in sorted(manifests, key=_modified)[:-KEEP]:
            path.unlink(missing_ok=True)


def _modified(path: Path | UPath) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0  # another run on the same table was faster
