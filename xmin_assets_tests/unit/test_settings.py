"""A setting is declared once: the file, the command line and Dagster's resource have it from there."""

from __future__ import annotations

import click
import pytest

from xmin_assets.cli.options import setting_options
from xmin_assets.cli.sync import command
from xmin_assets.config import Settings, parse_config
from xmin_assets.config.settings import CommandLineOption
from xmin_assets.orchestration.resources import ReplicationSettings

OFFERED = {
    name: offered
    for name, field in Settings.model_fields.items()
    for offered in field.metadata
    if isinstance(offered, CommandLineOption)
}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_file_and_in_the_resource(name: str) -> None:
    value = getattr(Settings(), name)
    config = parse_config({"settings": {name: value}, "tables": ["public.t"]})

    assert getattr(config.settings, name) == value
    assert name in ReplicationSettings.model_fields
    assert ReplicationSettings.model_fields[name].description == Settings.model_fields[name].description


def test_the_settings_that_are_offered_are_options_of_sync() -> None:
    context = click.Context(command)
    by_name = {parameter.name: parameter for parameter in command.get_params(context)}

    assert {option.name for option in setting_options()} == {*OFFERED} == {"workers", "batch_size", "spool"}
    for name, offered in OFFERED.items():
        option = by_name[name]
        assert isinstance(option, click.Option)
        assert (option.metavar, option.help) == (offered.metavar, offered.help)
        assert option.default is None or not option.required  # what is not said leaves the file's setting
