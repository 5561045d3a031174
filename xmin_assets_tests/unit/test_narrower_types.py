"""Which types hold less than others, and exactly what these hold."""

from __future__ import annotations

import pytest

from xmin_assets.postgres.narrower_types import holds_less


@pytest.mark.parametrize(
    ("type_", "than"),
    [
        ("character varying(5)", "character varying(50)"),
        ("character varying(5)", "character varying"),
        ("character varying(5)", "text"),
        ("character varying(5)[]", "character varying(50)[]"),
        ("character(5)", "character(10)"),
        ("bit varying(3)", "bit varying"),
        ("smallint", "bigint"),
        ("integer", "bigint"),
        ("integer", "numeric"),
        ("real", "double precision"),
        ("numeric(4,2)", "numeric(10,2)"),
        ("numeric(4,2)", "numeric"),
    ],
)
def test_less(type_: str, than: str) -> None:
    assert holds_less(type_, than)
    assert not holds_less(than, type_)


@pytest.mark.parametrize(
    ("type_", "than"),
    [
        ("integer", "integer"),
        ("character varying", "text"),
        ("integer", "numeric(5,2)"),
        ("numeric(6,4)", "numeric(10,2)"),  # two digits more behind the point
        ("numeric(5,-2)", "numeric(5,0)"),  # seven digits before it
        ("timestamp(3) without time zone", "timestamp(6) without time zone"),
        ("character(5)", "text"),
        ("character varying(5)", "text[]"),
        ("integer", "text"),
        ('public."a(1)"', "text"),
    ],
)
def test_neither(type_: str, than: str) -> None:
    assert not holds_less(type_, than)
    assert not holds_less(than, type_)
