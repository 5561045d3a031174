"""Options that every command takes, before or after the command's name, and those that override settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

if TYPE_CHECKING:
    from xmin_assets.config import ReplicationConfig

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass
class Invocation:
    """What the user asked of every command."""

    config_file: str | None = None
    json: bool = False
    debug: bool = False
    config: ReplicationConfig | None = None
    """The configuration, once it is loaded."""

    def load(self, **settings: object) -> ReplicationConfig:
        """Read the configuration; settings that are not None go before the file's.

        Raises:
            ConfigError: the file or a value is wrong.
        """
        from xmin_assets.config import load_config

        if self.debug:
            from xmin_assets.cli.debug import show_log

            show_log(self.connection_strings)
        self.config = load_config(self.config_file)  # kept at once: an error below must not show its passwords
        self.config = self.config.with_settings(**{k: v for k, v in settings.items() if v is not None})
        return self.config

    def connection_strings(self) -> tuple[str, ...]:
        """Return those of the configuration file, which hold passwords."""
        if self.config is None:
            return ()
        return tuple(url.get_secret_value() for url in (self.config.source, self.config.target) if url)


def common(function: Function) -> Function:
    """Add ``--config``, ``--json`` and ``--debug``. Given twice, the one after the command counts."""
    for option in (
        click.option(
            "--debug",
            is_flag=True,
            expose_value=False,
            callback=_remember("debug"),
            help="Show where an error came from.",
        ),
        click.option(
            "--json",
            is_flag=True,
            expose_value=False,
            callback=_remember("json"),
            help="Print one JSON object instead of text.",
        ),
        click.option(
            "--config",
            metavar="FILE",
            expose_value=False,
            callback=_remember("config_file"),
            help="The configuration file; default: XMIN_CONFIG, else the project's own.",
        ),
    ):
        function = option(function)
    return function


class OverridingCommand(click.Command):
    """A command with an option for each setting that is offered on the command line (`config.settings`).

    The options are made when they are needed: to list the commands nobody waits for the configuration's models.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own options and arguments, those of the settings, and those of every command."""
        parameters = super().get_params(ctx)
        own = [parameter for parameter in parameters if parameter.expose_value]
        return [*own, *setting_options(), *(parameter for parameter in parameters if not parameter.expose_value)]


@cache
def setting_options() -> tuple[click.Option, ...]:
    """Build the options of the settings that have a `CommandLineOption`."""
    from xmin_assets.config import Settings
    from xmin_assets.config.settings import CommandLineOption

    return tuple(
        click.Option(
            [f"--{name.replace('_', '-')}"],
            type=_type_of(field.annotation),
            metavar=offered.metavar,
            help=offered.help,
        )
        for name, field in Settings.model_fields.items()
        for offered in field.metadata
        if isinstance(offered, CommandLineOption)
    )


def _type_of(annotation: Any) -> type:
    """Return the type of a setting, which may also be None."""
    (kind,) = {*(get_args(annotation) or (annotation,))} - {type(None)}
    assert isinstance(kind, type)
    return kind


tables = click.argument("tables", nargs=-1, metavar="[TABLE]...")


def _remember(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.find_object(Invocation), field, value)

    return callback
