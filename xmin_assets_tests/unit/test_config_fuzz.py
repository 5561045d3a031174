"""Whatever a configuration says, it is understood or refused in a few lines; nothing else can come of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from xmin_assets.config import ReplicationConfig, Settings, TableConfig, parse_config
from xmin_assets.errors import ConfigError
from xmin_assets.postgres.identifiers import QualifiedName

LONGEST_LINES = 6

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
)


def keys_of(model: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Known keys with any values, and now and then an unknown key."""
    known = st.sampled_from(sorted(model.model_fields))
    return st.dictionaries(known | st.text(max_size=8), values, max_size=5)


tables = st.lists(
    st.text(max_size=30) | keys_of(TableConfig) | st.fixed_dictionaries({"source": st.text(max_size=70)}), max_size=3
)
configurations = values | st.fixed_dictionaries(
    {"tables": tables | values},
    optional={"settings": keys_of(Settings), "defaults": keys_of(TableConfig), "source": values, "sensor": values},
)


def understood(data: object) -> ReplicationConfig | None:
    try:
        return parse_config(data)
    except ConfigError as error:
        message = str(error)
        assert message
        assert len(message.splitlines()) <= LONGEST_LINES
        assert "Traceback" not in message
        assert "pydantic" not in message
        return None


@given(configurations)
@settings(max_examples=400, deadline=None)
def test_any_data_is_a_configuration_or_an_error_of_a_few_lines(data: object) -> None:
    config = understood(data)
    if config is not None:
        for table in config.tables:
            assert QualifiedName.parse(str(table.source_name)) == table.source_name


@given(st.text(max_size=80))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_table_name_that_reads_back_or_refused(text: str) -> None:
    try:
        name = QualifiedName.parse(text)
    except ConfigError:
        return
    assert QualifiedName.parse(str(name)) == name
    assert "\0" not in name.schema + name.name


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_where_or_refused(text: str) -> None:
    understood({"tables": [{"source": "public.items", "where": text}]})
