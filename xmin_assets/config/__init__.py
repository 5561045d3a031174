"""The configuration: what people may say (`model`), where it is read from (`reading`), what is wrong with it."""

from xmin_assets.config.checks import Checks, Severity
from xmin_assets.config.durations import duration
from xmin_assets.config.explaining import nearest
from xmin_assets.config.model import (
    HISTORY_ROWS,
    Mode,
    ReplicationConfig,
    Settings,
    TableConfig,
    TableDefaults,
    connection_url,
)
from xmin_assets.config.pattern import TablePattern
from xmin_assets.config.reading import DEFAULT_CONFIG, config_path, load_config, load_pattern, parse_config

__all__ = [
    "DEFAULT_CONFIG",
    "HISTORY_ROWS",
    "Checks",
    "Mode",
    "ReplicationConfig",
    "Settings",
    "Severity",
    "TableConfig",
    "TableDefaults",
    "TablePattern",
    "config_path",
    "connection_url",
    "duration",
    "load_config",
    "load_pattern",
    "nearest",
    "parse_config",
]
