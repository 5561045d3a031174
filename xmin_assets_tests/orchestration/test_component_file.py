"""The component reads its file as the command does: the same templates, mistakes and databases."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from dagster import DagsterInstance
from dagster.components.core.component_tree import ComponentTreeException

from xmin_assets.config import load_config, parse_config
from xmin_assets.errors import ConfigError
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.test_guest import databases, importable, load
from xmin_assets_tests.orchestration.test_scaffold import dg, project

__all__ = ["databases", "importable", "project"]

VARIABLES = """
import dagster as dg

@dg.template_var
def region():
    return "it's"

@dg.template_var
def tables():
    return [{"source": "public.orders", "where": "id < 4"}, "public.items"]

@dg.template_var
def batch():
    return 7

@dg.template_var
def team():
    return "sales"
"""

SECRET = "hunter2secret"
URL = f"postgresql://someone:{SECRET}@127.0.0.1:1/db"


def write(project: Path, attributes: str, folder: str = "copies") -> Path:
    """Write a component whose attributes these are, with template variables beside it."""
    file = project / "warehouse/defs" / folder / "defs.yaml"
    file.parent.mkdir(exist_ok=True)
    (file.parent / "variables.py").write_text(VARIABLES)
    lines = "".join(f"  {line}\n" for line in attributes.strip("\n").split("\n"))
    file.write_text(
        f"type: xmin_assets.XminReplicationComponent\ntemplate_vars_module: .variables\nattributes:\n{lines}"
    )
    return file


def by_the_command(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    return str(caught.value)


def by_the_component(project: Path) -> str:
    """What our error says, which Dagster has as the cause of one that shows the place among the components."""
    with pytest.raises(ComponentTreeException) as caught:
        load(project).get_repository_def()
    assert isinstance(caught.value.__cause__, ConfigError)
    return str(caught.value.__cause__)


def test_template_variables_are_put_in_before_anything_is_judged(
    importable: Path, databases: tuple[Database, Database], instance: DagsterInstance
) -> None:
    source, target = databases
    source.execute(
        "CREATE TABLE places (id int PRIMARY KEY, region text); INSERT INTO places VALUES (1, 'it''s'), (2, 'no')"
    )
    write(
        importable,
        f"""
tables:
  - source: public.places
    where: "region = '{{{{ region.replace(\\"'\\", \\"''\\") }}}}'"
settings: {{spool: {importable}/spool, batch_size: "{{{{ batch }}}}", workers: "{{{{ env('WORKERS', 2) }}}}"}}
schedule: "{{{{ env.WHEN }}}}"
""",
    )
    write(importable, f'tables: "{{{{ tables }}}}"\nsettings: {{spool: {importable}/spool}}', "lists")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHEN", "5 * * * *")
        repository = load(importable).get_repository_def()

    for name in ("copies", "lists"):
        assert repository.get_job(f"{name}_sync_all_tables").execute_in_process(instance=instance).success
    assert target.fetch("SELECT id FROM places") == [(1,)]
    assert target.fetch("SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM items") == [(3,), (20,)]
    (schedule,) = repository.schedule_defs
    assert schedule.cron_schedule == "5 * * * *"


# Dagster itself makes checks of a component's with a parameter that it calls beta.
@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning")
def test_template_variables_are_known_to_translation_too(importable: Path) -> None:
    write(importable, 'tables: [public.orders]\ntranslation: {group_name: "{{ team }}_{{ table.name }}"}')

    keys = load(importable).get_repository_def().asset_graph
    assert {keys.get(key).group_name for key in keys.materializable_asset_keys} == {"sales_orders"}


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ("tables: [public.orders]\nschedul: '0 * * * *'", "unknown key 'schedul'. Did you mean schedule?"),
        ("tables: [public.orders]\nschedule: 99 * * * *", "schedule is no schedule: '99 * * * *'; write five fields"),
        ("tables: [public.orders]\nsensor: {evry: 9}", "sensor: unknown key 'evry'. Did you mean every?"),
        ("tables: [public.orders]\ncleanup: '@reboot'", "cleanup is no schedule: '@reboot'"),
        ("tables: [public.orders]\nautomation: 0 0 * *", "automation is no schedule: '0 0 * *'"),
        ("tables: [{source: o, mode: fast}]", "table o: mode is 'fast', which is not one of 'xmin_incremental'"),
        ("tables: [{source: o, where: '{{ env.NOWHERE }}'}]", "table o: where uses the variable NOWHERE, which is not"),
        ("tables: [{source: o, where: 'a = {{ b'}]", "table o: where has braces in it that are no template"),
        ("tables: [public.orders]\ntables: [public.items]", "the key tables stands there twice."),
        ("{}", "holds no settings. The least that works is:"),
        ("", "holds no settings. The least that works is:"),
    ],
)
def test_a_mistake_is_told_in_the_same_words(importable: Path, attributes: str, words: str) -> None:
    file = write(importable, attributes)

    told = by_the_component(importable)
    assert told == by_the_command(file)
    assert told.startswith(str(file))
    assert words in told
    assert len(told.splitlines()) <= 2


def test_a_name_that_templates_do_not_know_is_no_text(importable: Path) -> None:
    file = write(importable, "tables: [{source: o, where: \"region = '{{ regoin }}'\"}]")

    assert "table o: where: its template uses regoin, which is not known. Did you mean region?" in by_the_component(
        importable
    )
    assert "its template uses regoin, which only Dagster can know" in by_the_command(file)


def test_an_error_in_a_variable_is_told_in_a_sentence(importable: Path) -> None:
    write(importable, 'tables: "{{ tables }}"\nsettings: {batch_size: "{{ 1 // 0 }}"}')

    assert by_the_component(importable).endswith(
        "settings: batch_size: its template raises ZeroDivisionError: integer division or modulo by zero"
    )


def test_each_component_has_the_databases_that_its_file_names(
    importable: Path, databases: tuple[Database, Database], instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = databases
    monkeypatch.setenv("XMIN_SOURCE_URL", "postgresql://nobody@127.0.0.1:1/other")
    monkeypatch.setenv("OUR_SOURCE", source.url)
    write(
        importable,
        f'source: "{{{{ env.OUR_SOURCE }}}}"\ntables: [public.orders]\nsettings: {{spool: {importable}/spool}}',
    )

    job = load(importable).get_repository_def().get_job("copies_sync_all_tables")
    assert job.execute_in_process(instance=instance).success
    assert target.fetch("SELECT count(*) FROM orders") == [(10,)]


@pytest.mark.parametrize("template", ["{{ env.NOT_YET }}", "{{ env('NOT_YET') }}", "{{ env('NOT_YET') + '/db' }}"])
def test_loading_needs_no_variable_of_a_database(
    importable: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(importable, f'source: "{template}"\ntables: [public.orders]')

    load(importable).get_repository_def()
    config = load_config(file)
    with pytest.raises(ConfigError, match="uses the variable NOT_YET, which is not set"):
        config.source_url()
    monkeypatch.setenv("NOT_YET", "postgresql://h/d")
    assert config.source_url().startswith("postgresql://h/d")


def test_the_command_reads_files_of_one_configuration(importable: Path) -> None:
    file = write(importable, "tables: [public.orders]")
    file.write_text(f"{file.read_text()}---\n{file.read_text()}")

    assert "holds 2 configurations, one after each ---" in by_the_command(file)


PLANTED = [
    f"source: {URL}\ntarget: {URL}\ntabels: [public.orders]",
    f"source: {URL}\ntables: [public.orders]\nsettings: {{workers: many}}",
    f"source: {URL}\ntarget: {URL}\ntables: []",
    f"source: [{URL}]\ntables: [public.orders]",
    f"source: {{url: {URL}}}\ntables: [public.orders]",
    f"target: '{{{{ {URL} }}}}'\ntables: [public.orders]",
    f"sorce: {URL}\ntables: [public.orders]",
    f"tables: {URL}",
    f"tables: [{{source: o, mode: '{URL}'}}]",
    f"tables: [{{source: o, key: ['{URL}', 7]}}]",
    f"tables: [{{source: o, where: '{{{{ {URL} }}}}'}}]",
    f"tables: [{{source: o, deletes: 'host=h password={SECRET}'}}]",
    f"tables: [{{source: o, '{URL}': 1}}]",
    f"tables: [o]\nschedule: '{URL}'",
    f"tables: [o]\nsteps: '{URL}'",
    f"tables: [o]\nname: '{URL}'",
    f"tables: [o]\nsensor: '{URL}'",
    f"tables: [o]\ntranslation: {{key: '{{{{ {URL} }}}}'}}",
    f"tables: [o]\nfreshness: {{fail_after: '{URL}'}}",
    f"tables: [o]\nchecks: {{target_equals_source: {{every: '{URL}'}}}}",
    f"tables: [o]\nsettings: {{spool: 's3://key:{SECRET}/x@bucket', worker: 2}}",
    f"tables: [o]\nsource: {URL}\nsource: {URL}",
]


ODD_PASSWORDS = (
    "{%hunter2secret",
    "se{{hunter2secret}}",
    '{{"x"|hunter2secret}}',
    'a/"hunter2secret',
    "a'hunter2secret",
    "x hunter2secret y",
)
ODD_STRINGS = [
    *(f"postgresql://u:{password}@h/db" for password in ODD_PASSWORDS),
    *(f"host=h password='{password}" for password in ODD_PASSWORDS),
    "password: hunter2secret",
    "PGPASSWORD=hunter2secret",
]


@pytest.mark.parametrize("string", ODD_STRINGS)
def test_a_password_of_any_form_is_shown_under_no_key(string: str) -> None:
    wrong = [
        {"source": string, "tables": "o"},
        {"target": [string], "tables": ["o"]},
        {"tables": [string]},
        {"tables": string},
        {"tables": [{"source": string, "mode": 1}]},
        {"tables": ["o"], string: 1},
        {"tables": ["o"], "schedule": string},
        {"tables": ["o"], "steps": string},
        {"tables": ["o"], "name": string},
        {"tables": ["o"], "settings": {string: 1}},
        {"tables": ["o"], "settings": {"workers": string}},
        {"tables": ["o"], "defaults": {"deletes": string}},
        {"tables": ["o"], "defaults": {"mode": string}},
        {"tables": ["o"], "freshness": {"fail_after": string}},
        {"tables": [{"source": "o", "delete_detection": string}]},
        {"tables": [{"source": "o", "convert": string}]},
        {"tables": [{"source": "o", "type_overrides": {"a": [string]}}]},
    ]
    for scope in (None, {"region": "x"}):
        assert [data for data in wrong if SECRET in told_about(data, scope)] == []


def told_about(data: dict[str, object], scope: dict[str, str] | None) -> str:
    """What is said of a configuration that may be wrong, causes included."""
    try:
        parse_config(data, scope=scope)
    except ConfigError as error:
        return "".join(traceback.format_exception(error))
    return ""


@pytest.mark.parametrize("attributes", PLANTED)
def test_no_mistake_shows_a_password(importable: Path, attributes: str, capfd: pytest.CaptureFixture[str]) -> None:
    file = write(importable, attributes)

    with pytest.raises(ComponentTreeException) as by_dagster:
        load(importable).get_repository_def()
    told = traceback.format_exception(by_dagster.value)
    try:
        load_config(file)
    except ConfigError as by_command:
        told += traceback.format_exception(by_command)
    else:
        # These templates are rendered by Dagster alone.
        assert "translation" in attributes
    assert SECRET not in "".join([*told, *capfd.readouterr()])


@pytest.mark.timeout(300)
def test_dg_shows_no_password_either(project: Path) -> None:
    write(project, f"source: {URL}\ntarget: {URL}\ntabels: [public.orders]\nsettings: {{workers: many}}")

    # Dagster's own look at the schema shows lines of the file, so it does not judge one with a password in it.
    assert SECRET not in dg(project, "check", "yaml").stdout
    for command in (("check", "defs"), ("list", "defs")):
        told = dg(project, *command)
        assert told.returncode != 0
        assert "unknown key 'tabels'. Did you mean tables?" in told.stdout + told.stderr
        assert SECRET not in told.stdout + told.stderr


def test_templates_and_short_forms_are_valid_to_dg(project: Path) -> None:
    write(
        project,
        """
source: "{{ env.OUR_SOURCE }}"
tables: [public.orders, {source: public.items, mode: "{{ env.MODE }}", delete_detection: 1 hour}]
settings: {workers: "{{ env('WORKERS', 2) }}"}
sensor: {every: 1 minute}
schedule: "{{ env.WHEN }}"
freshness: {fail_after: 2 hours}
""",
    )

    checked = dg(project, "check", "yaml", "--no-validate-requirements")
    assert checked.returncode == 0, checked.stdout + checked.stderr
