"""Keep copies of PostgreSQL tables in another PostgreSQL database, incrementally, by xmin.

Public names are imported when they are first used: a sync from cron does not pay for Dagster.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmin_assets.config import Mode, ReplicationConfig, Settings, TableConfig, load_config, parse_config
    from xmin_assets.errors import TerminalError, TransientError, XminAssetsError
    from xmin_assets.orchestration.assets import build_xmin_assets, build_xmin_checks
    from xmin_assets.orchestration.component import XminReplicationComponent
    from xmin_assets.orchestration.definitions_builder import build_definitions, build_resources
    from xmin_assets.orchestration.resources import ReplicationSettings
    from xmin_assets.orchestration.translator import DagsterXminTranslator, XminTranslatorProps
    from xmin_assets.postgres.connection import Database
    from xmin_assets.replication.extraction.extract import extract
    from xmin_assets.replication.manifests.extract import CsvExtract
    from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
    from xmin_assets.replication.manifests.plan import SourceSnapshot
    from xmin_assets.replication.manifests.report import SyncReport, TableResult
    from xmin_assets.replication.merging.merge import merge
    from xmin_assets.replication.planning.snapshot import snapshot
    from xmin_assets.replication.runtime.databases import open_databases
    from xmin_assets.replication.spool.spool import Spool
    from xmin_assets.replication.staging.stage import stage
    from xmin_assets.replication.sync import SyncContext, plan_tables, resync_tables, sync_table, sync_tables
    from xmin_assets.replication.verification.verify import TableVerification, Verification, verify_table, verify_tables

_HOMES = {
    "xmin_assets.config": (
        "Mode",
        "ReplicationConfig",
        "Settings",
        "TableConfig",
        "load_config",
        "parse_config",
    ),
    "xmin_assets.errors": (
        "TerminalError",
        "TransientError",
        "XminAssetsError",
    ),
    "xmin_assets.orchestration.assets": (
        "build_xmin_assets",
        "build_xmin_checks",
    ),
    "xmin_assets.orchestration.component": ("XminReplicationComponent",),
    "xmin_assets.orchestration.definitions_builder": (
        "build_definitions",
        "build_resources",
    ),
    "xmin_assets.orchestration.resources": ("ReplicationSettings",),
    "xmin_assets.orchestration.translator": (
        "DagsterXminTranslator",
        "XminTranslatorProps",
    ),
    "xmin_assets.postgres.connection": ("Database",),
    "xmin_assets.replication.extraction.extract": ("extract",),
    "xmin_assets.replication.manifests.extract": ("CsvExtract",),
    "xmin_assets.replication.manifests.merge": (
        "MergedTarget",
        "StagedTable",
    ),
    "xmin_assets.replication.manifests.plan": ("SourceSnapshot",),
    "xmin_assets.replication.manifests.report": (
        "SyncReport",
        "TableResult",
    ),
    "xmin_assets.replication.merging.merge": ("merge",),
    "xmin_assets.replication.planning.snapshot": ("snapshot",),
    "xmin_assets.replication.runtime.databases": ("open_databases",),
    "xmin_assets.replication.spool.spool": ("Spool",),
    "xmin_assets.replication.staging.stage": ("stage",),
    "xmin_assets.replication.sync": (
        "SyncContext",
        "plan_tables",
        "resync_tables",
        "sync_table",
        "sync_tables",
    ),
    "xmin_assets.replication.verification.verify": (
        "TableVerification",
        "Verification",
        "verify_table",
        "verify_tables",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME_OF]
