"""The configuration as a component of Dagster: ``type: xmin_assets.XminReplicationComponent`` in a defs.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagster import Component, ComponentLoadContext, Definitions, scaffold_with
from dagster.components.core.defs_module import ComponentPath
from dagster.components.resolved.scopes import LoadContextScope
from pydantic import BaseModel
from typing_extensions import Self

from xmin_assets.config import ReplicationConfig, check_form, parse_config
from xmin_assets.orchestration.component_schema import Attributes
from xmin_assets.orchestration.definitions_builder import build_definitions
from xmin_assets.orchestration.names import component_name
from xmin_assets.orchestration.scaffolding import XminReplicationScaffolder


@scaffold_with(XminReplicationScaffolder)
@dataclass(frozen=True)
class XminReplicationComponent(Component):
    """Keeps copies of PostgreSQL tables in another PostgreSQL database, incrementally, by xmin."""

    config: ReplicationConfig
    scope: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What templates under `translation:` may name, which are rendered for each asset."""

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return a model that takes anything: what a file says is judged by the command's own reader."""
        return Attributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: ComponentLoadContext) -> Self:
        """Return the component of a defs.yaml.

        Raises:
            ConfigError: the file says something unknown or impossible.
        """
        file = _file(context)
        if file.is_file():
            check_form(file)
        scope = {**context.resolution_context.scope, "context": LoadContextScope(context)}  # type: ignore[no-untyped-call]
        said = attributes.root if isinstance(attributes, Attributes) else None
        return cls(parse_config(said, str(file), scope=scope).with_own_databases(), scope)

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """Return the assets, their job and their resources."""
        config = self.config
        if config.name is None:
            config = config.model_copy(update={"name": _name(context)})
        return build_definitions(config, scope=self.scope)


def _file(context: ComponentLoadContext) -> Path:
    """Return the file that a component is read from, or the folder of one that no file has."""
    tree = context.resolution_context.source_position_tree
    return Path(tree.position.filename) if tree else context.path


def _name(context: ComponentLoadContext) -> str:
    """Return what a component without a name is called: by the folders to it, and its place in a file with several."""
    location = context.component_loc
    if not isinstance(location, ComponentPath):
        return component_name((str(getattr(location, "instance_key", "")),))
    path = location.file_path
    if path.suffix == ".py":
        path = path.parent if path.name == "component.py" else path.with_suffix("")
    known = path.is_relative_to(context.defs_module_path)
    folders = path.relative_to(context.defs_module_path).parts if known else ()
    return component_name(folders or (path.name,), location.instance_key)
