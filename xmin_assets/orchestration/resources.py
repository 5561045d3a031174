"""The settings, as a resource that people edit in the launchpad."""

from __future__ import annotations

from typing import Any

from dagster import ConfigurableResource
from pydantic import Field, ValidationError, create_model

from xmin_assets.config import Settings
from xmin_assets.errors import ConfigError

RESOURCE_KEY = "replication_settings"


def _as_in_settings(name: str) -> Any:
    field = Settings.model_fields[name]
    return Field(default=field.default, description=field.description)


class ReplicationSettings(ConfigurableResource[Any]):
    """How the work is done; the same for all tables.

    The fields, defaults and descriptions are those of `xmin_assets.config.Settings`. The values are checked
    when they are used and not here: until then a field may hold an `EnvVar`.
    """

    workers: int | None = _as_in_settings("workers")
    min_workers: int = _as_in_settings("min_workers")
    max_workers: int = _as_in_settings("max_workers")
    batch_size: int = _as_in_settings("batch_size")
    spool: str | None = _as_in_settings("spool")
    statement_timeout: float = _as_in_settings("statement_timeout")
    lock_timeout: float = _as_in_settings("lock_timeout")
    queue_timeout: float = _as_in_settings("queue_timeout")
    connect_timeout: int = _as_in_settings("connect_timeout")
    held_back_warning: float = _as_in_settings("held_back_warning")
    history_rows: int = _as_in_settings("history_rows")
    max_snapshot_age: float = _as_in_settings("max_snapshot_age")

    @classmethod
    def from_settings(cls, settings: Settings) -> ReplicationSettings:
        """A resource whose defaults are these settings.

        They are the defaults of a class, not an instance's values: Dagster forgets those as soon as the launchpad
        says anything about the resource.
        """
        fields: dict[str, Any] = {
            name: (field.annotation, Field(default=getattr(settings, name), description=field.description))
            for name, field in cls.model_fields.items()
        }
        resource: ReplicationSettings = create_model(cls.__name__, __base__=cls, __doc__=cls.__doc__, **fields)()
        return resource

    def to_settings(self) -> Settings:
        """The settings, checked.

        Raises:
            ConfigError: a value is not allowed.
        """
        try:
            return Settings(**{name: getattr(self, name) for name in Settings.model_fields})
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False)
            said = "; ".join(" ".join([*map(str, problem["loc"]), problem["msg"]]) for problem in problems)
            raise ConfigError(f"The resource {RESOURCE_KEY}: {said}.") from None
