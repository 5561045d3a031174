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
from xmin_assets.config.reading import DEFAULT_CONFIG, config_path, load_config, parse_config

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
    "config_path",
    "connection_url",
    "duration",
    "load_config",
    "nearest",
    "parse_config",
]
