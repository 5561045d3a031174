"""Many histories in a row, and what is done with one that fails: it is kept, shortened, and told of."""

from __future__ import annotations

import faulthandler
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from xmin_assets.replication.changed_blocks import block_map
from xmin_assets_tests.adversary.history import History, draw
from xmin_assets_tests.adversary.runner import Runner, Tally
from xmin_assets_tests.adversary.servers import Servers
from xmin_assets_tests.adversary.verdict import Wrong

LONGEST = 180
"""Seconds after which a step is taken to hang: the process then says where, and ends; its servers end with it."""

KINDS = (
    "lacks or has otherwise", "rows that the source has not", "no sync has seen", "verify of", "for no reason",
    "does not get through", "unexpected", "has changed the target", "no block", "every block", "those changed since",
    "full_sync", "KeyInvalid", "TargetDrifted", "ServerError",
)  # fmt: skip
"""Words that tell one failure from another."""


def campaign(
    servers: Servers,
    seed: int,
    deadline: float,
    folder: Path,
    spool: Path,
    *,
    shorten: float = 0,
    keep_going: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Play histories until the time is up; the files of those that failed.

    Args:
        servers: to play on.
        seed: of the first history; the next ones have the numbers after it.
        deadline: monotonic time in seconds.
        folder: where failing histories are kept.
        spool: a folder for the engine's files.
        shorten: seconds for leaving out steps of a failing history that it does not need.
        keep_going: whether to go on after a failure.
        say: told what happens.
    """
    tally, found = Tally(), []
    began = time.monotonic()
    say(f"seed {seed}")
    number = seed
    while time.monotonic() < deadline:
        history = draw(number)
        if failure := failing(servers, history, spool, tally, folder / f"hanging-{number}.json"):
            path = folder / f"{number}.json"
            history.note = failure
            history.write(path)
            say(f"seed {number} FAILED: {failure}\n  kept as {path}")
            found.append(path)
            if shorten:
                short = shortened(servers, history, spool, time.monotonic() + shorten)
                short.write(path)
                say(f"  shortened to {len(short.steps)} steps: {short.note}")
            if not keep_going:
                break
        number += 1
    for line in tally.lines():
        say(line)
    if undone := tally.undone():
        say(f"  never done: {', '.join(undone)}")
    say(f"seeds {seed} to {number}: {len(found)} failed, {tally.syncs / (time.monotonic() - began):.1f} syncs a second")
    return found


def replay(servers: Servers, path: Path, spool: Path, say: Callable[[str], None] = print) -> str | None:
    """Play the history of a file; what went wrong, or None."""
    history = History.load(path)
    failure = failing(servers, history, spool, Tally(), path.with_suffix(".hanging.json"))
    for line in history.played:
        say(line)
    say(f"FAILED: {failure}" if failure else "nothing went wrong")
    return failure


def failing(servers: Servers, history: History, spool: Path, tally: Tally, hanging: Path) -> str | None:
    """Play a history; what went wrong, or None. A history that failed has, from then on, what its steps chose."""
    shutil.rmtree(spool, ignore_errors=True)
    runner = Runner(servers, history, spool, tally, lambda: faulthandler.dump_traceback_later(LONGEST, exit=True))
    history.write(hanging)
    try:
        with small_maps():
            runner.play()
    except Wrong as wrong:
        failure = str(wrong)
    except Exception:  # noqa: BLE001 - told of as a failure, and the histories after it are played
        failure = f"the adversary itself failed: {traceback.format_exc()}"
    else:
        hanging.unlink(missing_ok=True)
        return None
    finally:
        faulthandler.cancel_dump_traceback_later()
        servers.calm()
    hanging.unlink(missing_ok=True)
    history.copies, history.steps = runner.literal.copies, runner.literal.steps
    return failure


@contextmanager
def small_maps() -> Iterator[None]:
    """Let a map of changed blocks be used for small tables, where it is never worth it."""
    usual = block_map.MOST_SHARE
    block_map.MOST_SHARE = 1000
    try:
        yield
    finally:
        block_map.MOST_SHARE = usual


def shortened(servers: Servers, history: History, spool: Path, deadline: float) -> History:
    """The history without what it fails without, as far as that is found in time."""
    best, kind = history, kind_of(history.note)

    def fails(changed: History) -> bool:
        nonlocal best
        tried = replace(changed, note="", played=[])
        failure = failing(servers, tried, spool, Tally(), Path(spool).with_name("hanging.json"))
        if failure is None or (kind and kind_of(failure) != kind):
            return False
        best = replace(tried, note=failure)
        return True

    def leave_out_steps(size: int) -> None:
        place = 0
        while place < len(best.steps) and time.monotonic() < deadline:
            # From the end: what comes after the fault goes first.
            end = len(best.steps) - place
            if not fails(replace(best, steps=best.steps[: max(0, end - size)] + best.steps[end:])):
                place += size

    def leave_out_copies() -> None:
        for place, copy in enumerate(best.copies):
            without = [*best.copies[:place], {**copy, "unused": True}, *best.copies[place + 1 :]]
            if time.monotonic() < deadline and not copy.get("unused"):
                fails(replace(best, copies=without))

    def leave_out_inside() -> None:
        for place, step in enumerate(best.steps):
            alone = {name: value for name, value in step.items() if name != "inside"}
            if "inside" in step and time.monotonic() < deadline:
                fails(replace(best, steps=[*best.steps[:place], alone, *best.steps[place + 1 :]]))

    leave_out_copies()
    size = max(1, len(best.steps) // 2)
    while time.monotonic() < deadline:
        before = len(best.steps)
        leave_out_steps(size)
        if size == 1 and len(best.steps) == before:
            break
        size = max(1, size // 2)
    leave_out_inside()
    return best


def kind_of(failure: str) -> tuple[str, ...]:
    """What distinguishes failures, so that one is not taken for another while a history is shortened."""
    return tuple(words for words in KINDS if words in failure)
