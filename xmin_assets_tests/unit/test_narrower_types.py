"""Which types hold less than others, and exactly what these hold."""

from __future__ import annotations

import pytest

from xmin_assets.postgres.narrower_types import holds_less, interim_type


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


@pytest.mark.parametrize(
    ("type_", "was", "interim"),
    [
        ("numeric(6,4)", "numeric(10,2)", "numeric"),
        ("numeric(10,2)", "numeric(8,4)", None),  # is rounded
        ("numeric(10,2)", "integer", "numeric"),
        ("numeric(12,2)", "integer", None),
        ("integer", "numeric(9,2)", None),
        ("integer", "numeric(10,0)", "numeric"),
        ("smallint", "numeric(5,0)", "numeric"),
        ("integer", "double precision", "numeric"),
        ("numeric(5,2)[]", "bigint[]", "numeric[]"),
        ("real", "numeric", "numeric"),
        ("double precision", "bigint", None),
        ("character(5)", "text", "text"),
        ("character(5)", "character varying(5)", None),
        ("character varying(5)", "character(10)", "text"),
        ("bit(4)", "bit(8)", "bit varying"),
        ("bit(8)", "bit(4)", "bit varying"),
        ("bit varying(3)", "bit(8)", "bit varying"),
        ("date", "timestamp without time zone", None),
        ("integer", "text", None),
        ("integer", "integer[]", None),
    ],
)
def test_a_type_for_the_time_being(type_: str, was: str, interim: str | None) -> None:
    assert interim_type(type_, was) == interim
