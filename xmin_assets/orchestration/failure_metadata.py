"""What a failed step shows beside its message: the kind of error, a command to go on with, and where to read on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

from dagster import MetadataValue, UrlMetadataValue

from xmin_assets.errors import (
    MassChange,
    MassDelete,
    PlanOutdated,
    SchemaChangeRefused,
    StaleExtract,
    TargetDrifted,
    XminAssetsError,
)

_COMMANDS: dict[type[XminAssetsError], str] = {
    MassChange: "sync {table} --allow-mass-change",
    MassDelete: "sync {table} --allow-mass-delete",
    PlanOutdated: "sync {table}",
    SchemaChangeRefused: "plan {table}",
    StaleExtract: "sync {table}",
    TargetDrifted: "sync {table}",
}
_ALLOWANCES: dict[type[XminAssetsError], str] = {
    MassChange: "allow_mass_change",
    MassDelete: "allow_mass_delete",
}
"""What lets a run do what was refused."""

_OTHERWISE = "sync {table} --debug"
"""The same in a terminal, with everything that is known of the error."""


_PAGE, _HEADING = "operations.md", "What to do when"


def failure_metadata(
    error: XminAssetsError, table: str | None = None, op: str | None = None
) -> Mapping[str, str | UrlMetadataValue]:
    """Return the metadata of a failure, in the order in which the UI shows it. It holds nothing of the error's message.

    Args:
        error: what went wrong.
        table: what people call the table, if it is about one.
        op: the step's op, where its config may be what to change.
    """
    kind = type(error)
    found: dict[str, str | UrlMetadataValue] = {"xmin_assets/error": kind.__name__}
    if table is not None:
        command = _COMMANDS.get(kind, _OTHERWISE).format(table=shlex.quote(table))
        found["xmin_assets/command"] = f"xmin-assets {command}"
    if (allowance := _ALLOWANCES.get(kind)) and op is not None:
        found["xmin_assets/run_config"] = f"ops: {{{op}: {{config: {{{allowance}: true}}}}}}"
    return {**found, "xmin_assets/see": _where_to_read_on()}


@cache
def _where_to_read_on() -> str | UrlMetadataValue:
    """Return a link to the table of errors, if the package says where its documentation is."""
    try:
        said = metadata("xmin-assets").get_all("Project-URL") or []
    except PackageNotFoundError:
        said = []
    for label, _, url in (entry.partition(", ") for entry in said):
        if label == "Documentation":
            return MetadataValue.url(f"{url.rstrip('/')}/{_PAGE}#{_HEADING.lower().replace(' ', '-')}")
    return f"docs/{_PAGE}, {_HEADING}"
