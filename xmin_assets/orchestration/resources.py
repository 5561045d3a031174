"""The settings, as a resource that people edit in the launchpad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dagster import ConfigurableResource
from pydantic import Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from xmin_assets.config import Settings
from xmin_assets.errors import ConfigError


class _SettingsResource(ConfigurableResource[Any]):
    """How the work is done; the same for all tables."""

    @classmethod
    def from_settings(cls, settings: Settings) -> ReplicationSettings:
        """Return a resource whose defaults are these settings.

        They are the defaults of a class, not an instance's values: Dagster forgets those as soon as the launchpad
        says anything about the resource.
        """
        fields = {name: _field(field, getattr(settings, name)) for name, field in Settings.model_fields.items()}
        made = create_model(cls.__name__, __base__=cls, __doc__=cls.__doc__, **fields)()
        return cast("ReplicationSettings", made)

    def to_settings(self, key: str = "replication_settings") -> Settings:
        """Return the settings, checked.

        Args:
            key: what the resource is called, for people.

        Raises:
            ConfigError: a value is not allowed.
        """
        try:
            return Settings(**{name: getattr(self, name) for name in Settings.model_fields})
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False)
            reasons = "; ".join(" ".join([*map(str, problem["loc"]), problem["msg"]]) for problem in problems)
            # The cause quotes values, and a spool's URL may have a password.
            raise ConfigError(f"The resource {key}: {reasons}.") from None


def _field(setting: FieldInfo, default: Any) -> Any:
    """Return a field like the setting's, without its limits: until a run uses it, it may hold an `EnvVar`."""
    return setting.annotation, Field(default=default, description=setting.description)


if TYPE_CHECKING:

    class ReplicationSettings(_SettingsResource):
        """How the work is done; the same for all tables."""

        def __init__(self, **settings: Any) -> None:
            """Take settings by their names; the others have their defaults."""

else:
    ReplicationSettings = create_model(
        "ReplicationSettings",
        __base__=_SettingsResource,
        __module__=__name__,
        __doc__="""How the work is done; the same for all tables.

    The fields, defaults and descriptions are those of `xmin_assets.config.Settings`. The values are checked when they
    are used and not here.
    """,
        **{name: _field(field, field.default) for name, field in Settings.model_fields.items()},
    )


def settings_of(resources: object, key: str) -> Settings:
    """Return the settings of a run.

    Args:
        resources: those of a step's context.
        key: of the one with the settings.

    Raises:
        ConfigError: a value is not allowed.
    """
    found: ReplicationSettings = getattr(resources, key)
    return found.to_settings(key)
