"""The configuration as a component of Dagster: ``type: xmin_assets.XminReplicationComponent`` in a defs.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from dagster import Component, ComponentLoadContext, Definitions, scaffold_with
from dagster.components.core.defs_module import ComponentPath
from pydantic import BaseModel
from typing_extensions import Self

from xmin_assets.config import ReplicationConfig, parse_config
from xmin_assets.orchestration.definitions_builder import build_definitions
from xmin_assets.orchestration.names import legal_schema
from xmin_assets.orchestration.scaffolding import XminReplicationScaffolder


@scaffold_with(XminReplicationScaffolder)
@dataclass(frozen=True)
class XminReplicationComponent(Component):
    """Keeps copies of PostgreSQL tables in another PostgreSQL database, incrementally, by xmin."""

    config: ReplicationConfig

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the configuration file's own model: its schema is what ``dg check yaml`` and editors know."""
        return ReplicationConfig

    @classmethod
    def load(cls, attributes: BaseModel | None, context: ComponentLoadContext) -> Self:
        """Return the component of a defs.yaml."""
        assert isinstance(attributes, ReplicationConfig)
        said = attributes.model_dump(exclude_unset=True)
        for side, secret in (("source", attributes.source), ("target", attributes.target)):
            if secret:
                said[side] = secret.get_secret_value()
        # Parsed again as a file is, which puts in the environment's variables.
        config = parse_config(said, str(context.path))
        return cls(config if config.name else config.model_copy(update={"name": _name(context)}))

    def build_defs(self, context: ComponentLoadContext) -> Definitions:  # noqa: ARG002
        """Return the assets, their job and their resources."""
        return build_definitions(self.config)


def _name(context: ComponentLoadContext) -> str:
    """Return what a component is called that has no name: its folder, and its number in a file with several."""
    path = context.component_path
    number = path.instance_key if isinstance(path, ComponentPath) else None
    folder = legal_schema(context.path.name)
    return f"{folder}_{number + 1}" if isinstance(number, int) and number else folder
