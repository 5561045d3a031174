"""The configuration: the models of what people may say, where they are read from, and what is wrong with them."""

from xmin_assets.config.checks import Checks, Severity
from xmin_assets.config.connections import connection_url
from xmin_assets.config.deletes import DeleteDetection, Deletes
from xmin_assets.config.durations import duration
from xmin_assets.config.loader import DEFAULT_CONFIG, check_form, config_path, load_config, load_pattern, parse_config
from xmin_assets.config.pattern import TablePattern
from xmin_assets.config.replication import ReplicationConfig
from xmin_assets.config.settings import HISTORY_ROWS, Settings
from xmin_assets.config.tables import Mode, TableConfig, TableDefaults, Triggers
from xmin_assets.config.validation_messages import nearest

__all__ = [
    "DEFAULT_CONFIG",
    "HISTORY_ROWS",
    "Checks",
    "DeleteDetection",
    "Deletes",
    "Mode",
    "ReplicationConfig",
    "Settings",
    "Severity",
    "TableConfig",
    "TableDefaults",
    "TablePattern",
    "Triggers",
    "check_form",
    "config_path",
    "connection_url",
    "duration",
    "load_config",
    "load_pattern",
    "nearest",
    "parse_config",
]
