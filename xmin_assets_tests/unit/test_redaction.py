"""No text leaves the command with a password in it, whoever wrote the text."""

from __future__ import annotations

import pytest

from xmin_assets.errors import TableNotFound
from xmin_assets.redaction import redact


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://user:hunter2@host:5432/db", "postgresql://user:****@host:5432/db"),
        ("no postgres://:hunter2@/db here", "no postgres://:****@/db here"),
        ("two postgresql://a:b@h/d, postgresql://c:d@h/d", "two postgresql://a:****@h/d, postgresql://c:****@h/d"),
        ("postgresql://user:with@sign@host/db", "postgresql://user:****@host/db"),
        ("s3://key:with/slash@bucket/folder", "s3://key:****@bucket/folder"),
        ("host=h password=hunter2 user=u", "host=h password=**** user=u"),
        ("password = 'with space' user=u", "password = **** user=u"),
        (r"password='it\'s' user=u", "password=**** user=u"),
        (
            "postgresql://host/db?user=u&password=hunter2&sslmode=require",
            "postgresql://host/db?user=u&password=****&sslmode=require",
        ),
        ("postgresql://user@host:5432/db", "postgresql://user@host:5432/db"),
        ("public.orders: 5 rows", "public.orders: 5 rows"),
    ],
)
def test_what_looks_like_a_password_is_hidden(text: str, redacted: str) -> None:
    assert redact(text) == redacted


def test_no_error_of_ours_is_made_with_one_in_it() -> None:
    error = TableNotFound("no table in postgresql://user:hunter2@host/db")

    assert str(error) == "no table in postgresql://user:****@host/db"


@pytest.mark.parametrize(
    "connection_string",
    [
        "postgresql://user:p%40ss%20word@host/db",
        "host=h user=u password='p@ss word'",
        "postgresql://host/db?user=u&password=p%40ss%20word",
    ],
)
def test_a_known_password_is_hidden_wherever_it_stands(connection_string: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "the server says: 'p@ss word' is wrong"

    assert redact(said) == said
    assert redact(said, (connection_string,)) == "the server says: '****' is wrong"
    monkeypatch.setenv("XMIN_TARGET_URL", connection_string)
    assert redact(said) == "the server says: '****' is wrong"


def test_of_two_passwords_the_longer_one_is_hidden_whole() -> None:
    urls = ("postgresql://user:blue@host/x", "postgresql://user:blue-moon@host/x")

    assert redact("not 'blue-moon'", urls) == "not '****'"


def test_the_password_of_a_string_that_libpq_cannot_read_is_hidden() -> None:
    unreadable = "postgresql://user:hunter%zz@host/db"

    assert redact("invalid percent-encoded token: hunter%zz", (unreadable,)) == "invalid percent-encoded token: ****"


def test_a_password_inside_another_word_leaves_the_word_alone() -> None:
    assert redact("the database data", ("postgresql://user:data@host/x",)) == "the database ****"


def test_a_password_that_is_the_name_of_the_user_hides_no_names() -> None:
    url = "postgresql://postgres:postgres@host/x"

    assert redact('no such user "postgres"', (url,)) == 'no such user "postgres"'
    assert redact(url, (url,)) == "postgresql://postgres:****@host/x"
