"""What ends the brackets or the statement that an expression stands in is refused; what only looks like it is not."""

from __future__ import annotations

import pytest

from xmin_assets.postgres.expression import Words, expression_error


@pytest.mark.parametrize(
    "expression",
    [
        "price > 5 AND (state = 'open' OR state IS NULL)",
        "note LIKE '%;)%'",
        "note = 'it''s; (here'",
        r"note = E'it\'s;)'",
        r"note = 'C:\' AND id > 5",
        '"we;ird)" = 1',
        "note = $$;)$$",
        "note = $a$ ; $b$ ) $a$",
        "id > 1 -- ;)",
        "id > 1 /* ; /* ) */ ; */ AND id < 5",
        "id IN (SELECT 1)",
        "a$b$ = 1 AND c$b$ = 2",
        "größe > 1",
        r"fooe'\'",
    ],
)
def test_an_expression_may_hold_anything_between_quotes_and_in_comments(expression: str) -> None:
    assert expression_error(expression) is None


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("true; DROP TABLE items", "semicolon"),
        ("true) OR (true", "closes a bracket"),
        ("true) TO PROGRAM 'x'", "closes a bracket"),
        ("(true", "leaves a bracket open"),
        ("note = 'x", "leaves a quote open"),
        (r"note = E'x\'", "leaves a quote open"),
        ('"note = 1', "leaves a quote open"),
        ("note = $a$ x $b$", "leaves a quote open"),
        ("true /* x", "leaves a comment open"),
        ("true /* x /* y */", "leaves a comment open"),
        ("true --\r; DROP TABLE items", "semicolon"),
        ("true --\n) OR (true", "closes a bracket"),
        # The server goes on with the first string, in which a backslash hides the quote after it.
        ("E'a'\n'\\''; DROP TABLE items; --'", "two strings in a row"),
        ("E'a' -- x\n'\\''; DROP TABLE items; --'", "two strings in a row"),
        ("a = '\0'", "NUL"),
    ],
)
def test_what_ends_its_brackets_or_the_statement_is_refused(expression: str, words: str) -> None:
    assert words in str(expression_error(expression))


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("status = 'paid'", "status"),
        ("STATUS = 'paid'", "status"),
        ('"Status" = 1', "Status"),
        ("t.status IS NULL", "status"),
        ("f('status')", "status"),
        ('"my col" = 1', "my col"),
        ('"a""b" = 1', 'a"b'),
        ('x = \'"\' AND "my col"', "my col"),
        ("größe > 1", "größe"),
        ("a$1 > 1", "a$1"),
        (f"{'long' * 20} > 1", ("long" * 20)[:63]),
        (f"{'ö' * 70} > 1", "ö" * 31),
        ("U&\"d!0061ta\" UESCAPE '!' = 1", "data"),
    ],
)
def test_an_expression_may_have_a_name_that_is_in_it_in_whatever_form(expression: str, name: str) -> None:
    assert Words(expression).may_have(name)


@pytest.mark.parametrize(
    ("expression", "name"),
    [("status = 'paid'", "stat"), ("status = 1", "tus"), ("a$1 > 1", "a"), ("my_col = 1", "my col"), ("a", "b")],
)
def test_an_expression_does_not_have_a_name_that_is_only_part_of_another(expression: str, name: str) -> None:
    assert not Words(expression).may_have(name)
