"""The hours in which loads by chunks may read."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from xmin_assets.config.load_window import Hours, LoadWindow
from xmin_assets.config.settings import Settings


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("hours", "moment", "is_in"),
    [
        ("22:00-06:00", "2026-01-15T21:59", False),
        ("22:00-06:00", "2026-01-15T22:00", True),
        ("22:00-06:00", "2026-01-15T03:00", True),
        ("22:00-06:00", "2026-01-15T06:00", False),
        ("08:00 - 18:00", "2026-01-15T12:00", True),
        ("20:00-24:00", "2026-01-15T23:59", True),
        ("20:00-24:00", "2026-01-15T00:00", False),
        ("22:00-06:00 Europe/Berlin", "2026-01-15T21:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-07-15T20:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-07-15T04:30", False),
    ],
)
def test_a_moment_is_in_the_hours_of_its_place(hours: str, moment: str, is_in: bool) -> None:
    assert Hours.parse(hours).contain(utc(moment)) is is_in


@pytest.mark.parametrize(
    ("window", "inside", "moment", "opens"),
    [
        ("22:00-06:00", True, "2026-01-15T12:00", "2026-01-15T22:00"),
        ("08:00-18:00", False, "2026-01-15T12:00", "2026-01-15T18:00"),
        ("22:00-06:00", False, "2026-01-15T23:00", "2026-01-16T06:00"),
        # The clocks of Berlin go forward at 2 on this night.
        ("03:30-06:00 Europe/Berlin", True, "2026-03-29T00:00", "2026-03-29T01:30"),
    ],
)
def test_it_says_when_loads_may_read_again(window: str, inside: bool, moment: str, opens: str) -> None:
    made = LoadWindow(Hours.parse(window), inside)

    assert not made.is_open(utc(moment))
    assert made.opens_at(utc(moment)) == utc(opens)
    assert made.is_open(utc(opens))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("at night", "write some such as 22:00-06:00 Europe/Berlin"),
        ("25:00-06:00", "write some such as"),
        ("22:61-06:00", "write some such as"),
        ("22:00-22:00", "begin when they end"),
        ("22:00-06:00 Berlin", "which is no time zone"),
    ],
)
def test_what_are_no_hours_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Settings(load_window=text)


def test_there_is_one_window() -> None:
    assert Settings().window is None
    assert Settings(quiet_hours="08:00-18:00").window == LoadWindow(Hours.parse("08:00-18:00"), inside=False)
    with pytest.raises(ValueError, match="exclude each other"):
        Settings(load_window="22:00-06:00", quiet_hours="08:00-18:00")
