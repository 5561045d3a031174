"""What ``dg scaffold defs xmin_assets.XminReplicationComponent NAME`` writes: a defs.yaml to begin with."""

from __future__ import annotations

import re

import click
from dagster import Scaffolder, ScaffoldRequest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from xmin_assets.config.yaml_names import as_yaml
from xmin_assets.errors import ConfigError
from xmin_assets.postgres.identifiers import QualifiedName

_TEMPLATE = """\
type: {type}

attributes:
  # libpq URLs, for the command xmin-assets as well.
  source: "{{{{ env.XMIN_SOURCE_URL }}}}"
  target: "{{{{ env.XMIN_TARGET_URL }}}}"
  tables:
{tables}
  # When all tables are synced; or a sensor, for those that changed.
  # schedule: "*/15 * * * *"
  # sensor: {{every: 1 minute}}
  # How old a target may become.
  # freshness: {{fail_after: 2 hours}}
  # `table` makes all four assets of a table in one step of a run.
  # steps: stages
"""


class ScaffoldParams(BaseModel):
    """What can be said on the command line."""

    model_config = ConfigDict(extra="forbid")

    tables: str = Field(
        default="public.orders", description="The source tables to begin with, as schema.table, with commas between."
    )

    @field_validator("tables")
    @classmethod
    def _are_names(cls, value: str) -> str:
        """Judge them here: before anything else is made of them, dg has made the folder."""
        try:
            _names(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value


class XminReplicationScaffolder(Scaffolder[ScaffoldParams]):
    """Writes a defs.yaml whose every line can stay or be filled in."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """Return the options of the command."""
        return ScaffoldParams

    def scaffold(self, request: ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the file, or another document of a file that is there.

        Raises:
            UsageError: the component is wanted in Python.
        """
        if request.scaffold_format != "yaml":
            if not any(request.target_path.iterdir()):
                request.target_path.rmdir()
            raise click.UsageError("This component is configured in YAML; leave --format out.")
        lines = [f"    - source: {as_yaml(name)}" for name in _names(request.params.tables)]
        file = request.target_path if request.append else request.target_path / "defs.yaml"
        text = _TEMPLATE.format(type=request.type_name, tables="\n".join(lines))
        if request.append and file.exists():
            text = file.read_text(encoding="utf-8").rstrip() + "\n---\n" + text
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _names(tables: str) -> list[QualifiedName]:
    """Return the tables of a list; a comma within quotes is part of a name."""
    return [QualifiedName.parse(name) for name in re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', tables)]
