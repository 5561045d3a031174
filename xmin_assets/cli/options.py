"""Options that every command takes, before or after the command's name, and those that override settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

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


def overrides(function: Function) -> Function:
    """Add options for those settings that are worth trying out: each is named and typed as in `Settings`.

    They are spelled out here and not read from the model, whose import is most of what ``sync --help`` would take.
    """
    for option in (
        click.option("--spool", type=str, metavar="DIR", help="Directory or URL for the CSV files."),
        click.option("--batch-size", type=int, metavar="ROWS", help="Rows that one COPY statement reads."),
        click.option("--workers", type=int, metavar="N", help="Connections that work on one table."),
    ):
        function = option(function)
    return function


tables = click.argument("tables", nargs=-1, metavar="[TABLE]...")


def _remember(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.find_object(Invocation), field, value)

    return callback
