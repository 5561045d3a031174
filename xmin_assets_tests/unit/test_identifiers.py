"""Table names mean what people write, and every name that PostgreSQL allows can be written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmin_assets.errors import ConfigError
from xmin_assets.postgres.identifiers import QualifiedName

# What PostgreSQL allows: anything but NUL, up to 63 bytes.
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)


@given(NAMES, NAMES)
def test_a_name_that_is_printed_is_read_back_as_the_same(schema: str, name: str) -> None:
    assert QualifiedName.parse(str(QualifiedName(schema, name))) == QualifiedName(schema, name)


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("orders", "public", "orders"),
        ("sales.orders", "sales", "orders"),
        ("Sales.Orders", "Sales", "Orders"),
        (" sales . orders ", "sales", "orders"),
        ('"my.schema"."my ""table"""', "my.schema", 'my "table"'),
        ('" orders"', "public", " orders"),
        ("größe.日本", "größe", "日本"),
    ],
)
def test_names_are_read_as_written(text: str, schema: str, name: str) -> None:
    assert QualifiedName.parse(text) == QualifiedName(schema, name)


@pytest.mark.parametrize("text", ["", " ", ".", "a.", ".a", "a..b", "a. .b", "a.b.c", '"a', 'a"b"', '""'])
def test_what_is_no_name_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"Write schema\.table, and quote"):
        QualifiedName.parse(text)


def test_a_name_is_measured_in_bytes() -> None:
    assert QualifiedName.parse("ü" * 31).name == "ü" * 31
    with pytest.raises(ConfigError, match="at most 63 bytes"):
        QualifiedName.parse("ü" * 32)
