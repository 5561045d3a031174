"""The `xmin-assets` command: finds the command's module, and turns every end into an exit status.

0: all well. 1: a table failed, the others still ran. 2: the command or the configuration was wrong.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from xmin_assets.cli.console import color, show_error, show_json
from xmin_assets.cli.interrupt import Stopped, signals_stop
from xmin_assets.cli.options import Invocation, common
from xmin_assets.errors import ConfigError, XminAssetsError
from xmin_assets.redaction import redact

COMMANDS = ("init", "plan", "sync", "status", "verify", "doctor", "resync", "workers", "clean", "demo")


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used: starting is most of an idle sync."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Return the commands in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        """Return the command of this name: `command` in the module of the same name."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"xmin_assets.cli.{name}").command
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command as click does; answer an unknown name with the nearest known one."""
        if arguments[0] not in COMMANDS and not arguments[0].startswith("-"):
            from xmin_assets.config import nearest

            raise click.UsageError(f"No such command {arguments[0]!r}.{nearest(arguments[0], COMMANDS)}", context)
        return super().resolve_command(context, arguments)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@common
@click.version_option(package_name="xmin-assets", message="%(prog)s %(version)s")
def app() -> None:
    """Keep copies of PostgreSQL tables in another PostgreSQL database, incrementally, by xmin.

    XMIN_SOURCE_URL and XMIN_TARGET_URL name the databases, a YAML file the tables.
    """


def run() -> NoReturn:
    """Run the installed command."""
    # To look for plugins, pydantic reads the metadata of every package that is installed, as many as Dagster needs.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # What is imported stays in use to the end. To search it for garbage, again and again while it is loaded and once
    # more at the end, is an eighth of an idle sync.
    gc.set_threshold(100_000)
    status = main(sys.argv[1:])
    gc.freeze()
    sys.exit(status)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status; what went wrong is said on stderr."""
    invocation = Invocation()
    try:
        with signals_stop():
            _read_env_file()
            # Not app.main(): it ends with 1, which here means that a table failed, when nobody reads our output.
            with app.make_context("xmin-assets", list(arguments), obj=invocation, color=color()) as context:
                status = app.invoke(context)
            sys.stdout.flush()
            return int(status or 0)
    except click.exceptions.Exit as ended:  # --help and --version
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Stopped as stop:
        return stop.status
    except BrokenPipeError:
        # Whoever read our output has left. What is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        return _explain(error, invocation)


def _read_env_file() -> None:
    # As `dagster dev` does: ./.env, for variables that are not set already.
    file = Path(".env")
    if file.is_file():
        from dotenv import load_dotenv

        try:
            load_dotenv(file)
        except (OSError, UnicodeDecodeError) as error:
            # The cause may have the file in it, passwords included.
            raise ConfigError(f"{file.absolute()} cannot be read: {error}.") from None


def _explain(error: Exception, invocation: Invocation) -> int:
    secrets = invocation.connection_strings()
    if invocation.debug:
        from xmin_assets.cli.debug import show_traceback

        show_traceback(error, secrets)
    expected = isinstance(error, XminAssetsError)
    message = str(error) if expected else _unexpected(error)
    if not invocation.debug and not expected:
        message += " This is a fault of xmin-assets; --debug shows where."
    show_error(message, secrets)
    if isinstance(error, ConfigError):
        return 2
    if invocation.json:
        show_json({"error": redact(message, secrets)})
    return 1


def _unexpected(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ") + "."
