"""A setting is declared once: the file and Dagster's resource have it from there; options of `sync` agree with it."""

from __future__ import annotations

from typing import get_args

import click
import pytest

from xmin_assets.cli.options import Invocation
from xmin_assets.cli.sync import command
from xmin_assets.config import Settings, parse_config
from xmin_assets.orchestration.resources import ReplicationSettings


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_file_and_in_the_resource(name: str) -> None:
    value = getattr(Settings(), name)
    config = parse_config({"settings": {name: value}, "tables": ["public.t"]})

    assert getattr(config.settings, name) == value
    assert name in ReplicationSettings.model_fields
    assert ReplicationSettings.model_fields[name].description == Settings.model_fields[name].description


def test_an_option_of_sync_is_named_and_typed_as_its_setting() -> None:
    flags = {"allow_mass_delete", "allow_mass_change", "refill"}
    offered = [
        option
        for option in command.params
        if isinstance(option, click.Option) and option.expose_value and option.name not in flags
    ]

    assert [option.name for option in offered] == ["workers", "batch_size", "spool"]
    for option in offered:
        assert option.name
        kinds = {*(get_args(annotation := Settings.model_fields[option.name].annotation) or (annotation,))}
        assert kinds - {type(None)} == {{"integer": int, "text": str}[option.type.name]}
        assert (
            command.make_context("sync", [], obj=Invocation()).params[option.name] is None
        )  # what is not said leaves the file's setting
