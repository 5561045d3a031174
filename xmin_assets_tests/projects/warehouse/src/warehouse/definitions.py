import logging
from pathlib import Path

from dagster import (
    Definitions,
    InitLoggerContext,
    definitions,
    load_from_defs_folder,
    logger,
    multiprocess_executor,
)


@logger
def warehouse_logger(context: InitLoggerContext) -> logging.Logger:
    """Begin each line as the house does."""
    made = logging.Logger("warehouse")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[warehouse] %(levelname)s %(message)s"))
    made.addHandler(handler)
    return made


@definitions
def defs() -> Definitions:
    """Load what lies in defs, beside an executor and a logger of the project's own."""
    return Definitions.merge(
        load_from_defs_folder(path_within_project=Path(__file__).parent),
        Definitions(
            executor=multiprocess_executor.configured({"max_concurrent": 2}), loggers={"console": warehouse_logger}
        ),
    )
