"""A configuration means what it says, and what is wrong with it is said in a line that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xmin_assets.config import (
    Mode,
    ReplicationConfig,
    Settings,
    TableConfig,
    config_path,
    load_config,
    parse_config,
)
from xmin_assets.errors import ConfigError


def config(**keys: Any) -> ReplicationConfig:
    return parse_config({"tables": [{"source": "public.orders"}], **keys})


def problem(data: object) -> str:
    """The message that parsing the data ends with."""
    with pytest.raises(ConfigError) as caught:
        parse_config(data, "tables.yaml")
    return str(caught.value)


def test_the_least_configuration_is_one_table() -> None:
    (table,) = config().tables

    assert (table.label, str(table.target_name)) == ("public.orders", "public.orders")
    assert (table.mode, table.deletes, table.key) == (Mode.XMIN_INCREMENTAL, "hard", None)


def test_a_table_may_be_its_name_alone() -> None:
    assert parse_config({"tables": ["orders"]}).tables == (TableConfig(source="orders"),)


def test_defaults_hold_for_tables_that_say_nothing_else() -> None:
    one, other = parse_config(
        {"defaults": {"mode": "full_sync", "key": "id"}, "tables": ["a", {"source": "b", "mode": "xmin_incremental"}]}
    ).tables

    assert (one.mode, one.key) == (Mode.FULL_SYNC, ("id",))
    assert (other.mode, other.key) == (Mode.XMIN_INCREMENTAL, ("id",))


def test_a_section_without_a_line_in_it_is_as_if_absent() -> None:
    assert config(defaults=None, settings=None) == config()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"tabels": ["a"]}, "tables.yaml: unknown key 'tabels'. Did you mean tables?"),
        (
            {"tables": [{"source": "public.orders", "modee": "full_sync"}]},
            "tables.yaml: table public.orders: unknown key 'modee'. Did you mean mode?",
        ),
        (
            {"tables": ["a"], "settings": {"worker": 3}},
            "tables.yaml: settings: unknown key 'worker'. Did you mean workers?",
        ),
        (
            {"tables": ["a", "b"], "defaults": {"delete": "soft"}},
            "tables.yaml: defaults: unknown key 'delete'. Did you mean deletes?",
        ),
        ({"tables": ["a"], "zzz": 1}, "tables.yaml: unknown key 'zzz'."),
        ({"tables": []}, "tables.yaml: tables is empty."),
        ({"source": "postgresql://h/d"}, "tables.yaml: tables is missing."),
        ({"tables": "orders"}, "tables.yaml: tables should be a list."),
        ({"tables": [{"target": "a"}]}, "tables.yaml: table 1: source is missing."),
        ({"tables": [{"source": 7}]}, "tables.yaml: table 7: source should be text."),
        ({"tables": [["a"]]}, "tables.yaml: table ['a']: should be a mapping of keys to values."),
        (
            {"tables": [{"source": "a", "mode": "fast"}]},
            (
                "tables.yaml: table a: mode is 'fast', which is not one of 'xmin_incremental', 'incremental_sync' or "
                "'full_sync'."
            ),
        ),
        (
            {"tables": ["a", "b"], "defaults": {"max_delete_share": 50}},
            "tables.yaml: defaults: max_delete_share should be less than or equal to 1, not 50.",
        ),
        (
            {"tables": ["a"], "settings": {"workers": 0}},
            "tables.yaml: settings: workers should be greater than or equal to 1, not 0.",
        ),
        (
            {"tables": ["a"], "settings": {"min_workers": 9}},
            "tables.yaml: settings: min_workers 9 is above max_workers 8.",
        ),
        ({"tables": [{"source": "a", "key": []}]}, "tables.yaml: table a: key names no column."),
        ({"tables": [{"source": "a", "key": ["b", "b"]}]}, "tables.yaml: table a: key names a column twice."),
        (
            {"tables": [{"source": "a", "where": " "}]},
            "tables.yaml: table a: where is empty; leave it out to copy all rows.",
        ),
        (
            {"tables": [{"source": "a", "columns": "x", "exclude_columns": "y"}]},
            "tables.yaml: table a: columns and exclude_columns exclude each other; keep one.",
        ),
        (
            {"tables": ["orders", {"source": "old.orders", "target": "orders"}]},
            (
                "tables.yaml: public.orders and old.orders have the same target, public.orders; "
                "give one of them another: target: schema.table."
            ),
        ),
    ],
)
def test_what_is_wrong_is_said_once_with_its_place(data: object, message: str) -> None:
    assert problem(data) == message


def test_more_problems_than_two_are_not_listed() -> None:
    assert len(problem({"tables": ["a"], "b": 1, "c": 2, "d": 3}).splitlines()) == 2


@pytest.mark.parametrize("name", ["a.b.c", "", "a..b", '"a', 'a"b', ".", "a.", "x" * 64])
def test_what_is_no_table_name_is_refused(name: str) -> None:
    assert "table name" in problem({"tables": [{"source": name}]}) or "cannot be a name" in problem({"tables": [name]})


@pytest.mark.parametrize("data", [None, [], "orders", 5])
def test_what_is_no_configuration_is_answered_with_the_least_that_works(data: object) -> None:
    assert problem(data).endswith("tables: [{source: public.orders}]")


@pytest.mark.parametrize(
    "source", [["postgresql://user:hunter2@host/db"], {"url": "postgresql://user:hunter2@host/db"}]
)
def test_a_wrong_connection_string_is_not_repeated(source: object) -> None:
    assert "hunter2" not in problem({"source": source, "tables": ["a"]})


def test_a_password_is_in_no_form_of_the_configuration() -> None:
    loaded = config(source="postgresql://user:hunter2@host/db")

    assert "hunter2" not in repr(loaded) + str(loaded) + loaded.model_dump_json()
    assert loaded.source_url() == "postgresql://user:hunter2@host/db"


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = config(source="postgresql://file/db", target="postgresql://file/db")
    monkeypatch.setenv("XMIN_TARGET_URL", "postgresql://environment/db")

    assert loaded.source_url() == "postgresql://file/db"
    assert loaded.target_url() == "postgresql://environment/db"


def test_a_missing_connection_string_names_its_variable() -> None:
    with pytest.raises(ConfigError, match=r"No target database is configured. Set XMIN_TARGET_URL"):
        config().target_url()


def test_a_variable_stands_for_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_HOST", "db.example.com")

    loaded = config(source="postgresql://{{ env.SOME_HOST }}/{{env.SOME_HOST}}")

    assert loaded.source_url() == "postgresql://db.example.com/db.example.com"


def test_a_variable_that_is_not_set_is_named() -> None:
    where = [{"source": "orders", "where": "region = '{{ env.NOWHERE }}'"}]

    assert problem({"tables": where}) == "tables.yaml: table orders: where uses the variable NOWHERE, which is not set."


def test_a_component_file_and_its_attributes_alone_are_the_same(tmp_path: Path) -> None:
    alone, component = tmp_path / "alone.yaml", tmp_path / "component.yaml"
    alone.write_text("tables: [orders]\n")
    component.write_text("type: xmin_assets.XminReplicationComponent\nattributes:\n  tables: [orders]\n")

    assert load_config(alone) == load_config(component)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tables: [", "is not YAML at line 1, column 10"),
        ("tables: [a]\ntables: [b]\n", "is not YAML at line 2, column 1: the key tables stands there twice."),
        (
            "atributes: {}\nattributes: {tables: [a]}",
            "unknown key 'atributes' beside attributes. Did you mean attributes?",
        ),
        ("", "holds no settings. The least that works is:\ntables: [{source: public.orders}]"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load_config(file)

    assert str(caught.value).startswith(str(file))
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"tables: [B\xfccher]")

    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory."):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        load_config(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match=r"There is no configuration file .*absent.yaml"):
        load_config(tmp_path / "absent.yaml")


def test_the_file_is_the_given_one_or_the_variable_or_the_project_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_path() == Path("xmin_assets/defs/replication/defs.yaml")
    monkeypatch.setenv("XMIN_CONFIG", "from/variable.yaml")
    assert config_path() == Path("from/variable.yaml")
    assert config_path("given.yaml") == Path("given.yaml")


def test_tables_are_selected_by_name_with_or_without_public() -> None:
    loaded = parse_config({"tables": ["public.orders", "sales.orders", 'public."a.b"']})

    assert [table.label for table in loaded.select(["orders"])] == ["public.orders"]
    assert [table.label for table in loaded.select(["sales.orders", "public.orders"])] == [
        "sales.orders",
        "public.orders",
    ]
    assert [table.label for table in loaded.select(['"a.b"', 'public."a.b"'])] == ['public."a.b"']
    assert loaded.select([]) == loaded.tables


def test_a_name_selects_every_table_of_that_source() -> None:
    loaded = parse_config({"tables": ["orders", {"source": "orders", "target": "orders_copy"}]})

    assert [str(table.target_name) for table in loaded.select(["orders"])] == ["public.orders", "public.orders_copy"]


def test_a_table_that_is_not_configured_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Table public.order is not configured. Did you mean public.orders\?"):
        config().select(["public.order"])


def test_settings_can_be_overridden_within_their_bounds() -> None:
    loaded = config(settings={"workers": 3, "batch_size": 50})

    assert loaded.with_settings(workers=5).settings == Settings(workers=5, batch_size=50)
    assert loaded.with_settings().settings == loaded.settings
    with pytest.raises(ConfigError, match=r"settings: batch_size should be greater than or equal to 1, not 0."):
        loaded.with_settings(batch_size=0)
    with pytest.raises(ConfigError, match=r"settings: unknown key 'batchsize'. Did you mean batch_size\?"):
        loaded.with_settings(batchsize=1)


def test_every_setting_has_a_description() -> None:
    for model in (ReplicationConfig, TableConfig, Settings):
        assert [name for name, field in model.model_fields.items() if not field.description] == []
