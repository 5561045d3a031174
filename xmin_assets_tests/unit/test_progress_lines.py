"""Where nobody watches, a sync says little: what each table's plan is, and now and then how far it got."""

from __future__ import annotations

import pytest

from xmin_assets.cli import progress
from xmin_assets.cli.progress import Lines
from xmin_assets.replication.runtime.progress import Progress

PLANNED = Progress("public.orders", "snapshot", 0, 0, "full_sync: first sync")
FAILED = Progress("public.orders", "snapshot", 0, 0, "trying again: the table was rewritten", is_retry=True)


def said(capsys: pytest.CaptureFixture[str], *steps: Progress) -> list[str]:
    lines = Lines()
    for step in steps:
        lines.report(step)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_plan_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, PLANNED) == ["public.orders: full_sync: first sync"]


def test_batches_that_follow_at_once_are_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    batches = [Progress("public.orders", "extract", rows, 3000) for rows in (1000, 2000, 3000)]

    assert said(capsys, PLANNED, *batches) == ["public.orders: full_sync: first sync"]


def test_a_batch_is_said_when_nothing_was_for_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)

    assert said(capsys, Progress("public.orders", "extract", 1000, 3000)) == [
        "public.orders: extract: 1,000 of 3,000 rows"
    ]


def test_a_retry_is_said_once_there_was_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, FAILED) == []
    assert said(capsys, PLANNED, FAILED)[1:] == ["public.orders: trying again: the table was rewritten"]
