"""The settings, as a resource that people edit in the launchpad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from dagster import ConfigurableResource, Noneable, Shape
from dagster import Field as ConfigField
from pydantic import Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from xmin_assets.config import Settings
from xmin_assets.errors import ConfigError

_FOR_USERS = """How tables are synced: over how many connections, how long to wait, where files go on their way.

What the launchpad says of it holds for one run, `settings:` in the configuration file for all of them.
"""


class _SettingsResource(ConfigurableResource[Any]):
    __doc__ = _FOR_USERS

    @property
    def _config_schema(self) -> ConfigField:
        made = super()._config_schema.as_field()
        fields = {name: _as_declared(name, said) for name, said in cast("Shape", made.config_type).fields.items()}
        shape = Shape(fields)  # type: ignore[no-untyped-call]
        return ConfigField(shape, default_value=made.default_value, is_required=False)

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


def _as_declared(name: str, said: ConfigField) -> ConfigField:
    """Return a field that takes None only if the setting does: Dagster lets every field do so that has a default."""
    may_be_none = type(None) in get_args(Settings.model_fields[name].annotation)
    if may_be_none or not isinstance(said.config_type, Noneable):
        return said
    return ConfigField(
        said.config_type.inner_type, default_value=said.default_value, is_required=False, description=said.description
    )


if TYPE_CHECKING:

    class ReplicationSettings(_SettingsResource):
        """How tables are synced."""

        def __init__(self, **settings: Any) -> None:
            """Take settings by their names; the others have their defaults."""

else:
    ReplicationSettings = create_model(
        "ReplicationSettings",
        __base__=_SettingsResource,
        __module__=__name__,
        __doc__=_FOR_USERS,
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
