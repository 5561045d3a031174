"""Plays a history, and compares what every sync has left with what the oracle saw under the sync's snapshot."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from xmin_assets import errors
from xmin_assets.config import ReplicationConfig, parse_config
from xmin_assets.postgres.connection import Database
from xmin_assets.replication.manifests.report import TableResult
from xmin_assets.replication.runtime.databases import open_databases
from xmin_assets.replication.runtime.progress import Progress
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.sync import SyncContext, resync_tables, sync_table
from xmin_assets.replication.verification.verify import verify_table
from xmin_assets_tests.adversary import weights
from xmin_assets_tests.adversary.copies import Copy
from xmin_assets_tests.adversary.history import History, Step
from xmin_assets_tests.adversary.oracle import Image, Picture
from xmin_assets_tests.adversary.servers import SOURCES, TARGET, Servers
from xmin_assets_tests.adversary.verdict import Wrong, judge_sync, judge_verify
from xmin_assets_tests.adversary.world import World

SETTINGS = {"lock_timeout": 0.1, "statement_timeout": 30, "connect_timeout": 10, "queue_timeout": 2}
LAST_ATTEMPTS = 8
"""Syncs within which a copy must get through when nothing disturbs any more."""
REFUSALS = 2
"""Refusals in a row after which a target is made anew, as a person would."""

MAY_PASS = (errors.LockTimeout, errors.PlanOutdated, errors.StaleExtract)
"""Errors that other sessions' doings explain."""
REFUSED = (errors.SchemaChangeRefused, errors.UnsupportedTable, errors.ConfigError, errors.MassDelete)
"""Errors that say that a person has to decide."""


@dataclass
class Tally:
    """What was played."""

    histories: int = 0
    syncs: int = 0
    failed: int = 0
    verified: int = 0
    retired: int = 0
    """Copies that were refused for good, though their targets had been dropped."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why syncs failed, for a look whether the histories still mean something."""
    paths: Counter[str] = field(default_factory=Counter)

    done: Counter[str] = field(default_factory=Counter)
    """Steps that PostgreSQL has taken, by what they are."""

    def undone(self) -> list[str]:
        """What no history has brought about, though it is in the weights."""
        wanted = (weights.STATEMENTS, weights.TYPES, weights.TRANSACTIONS, weights.SERVER)
        return [name for choice in wanted for name, weight in choice.items() if weight and not self.done[name]]

    def lines(self) -> list[str]:
        """For people."""
        made = f"{self.histories} histories, {self.syncs} syncs made, {self.failed} not made"
        lines = [f"{made}, {self.verified} verified, {self.retired} copies given up"]
        for counted in (self.paths, self.reasons):
            lines += [f"  {count:6} {what}" for what, count in counted.most_common(12)]
        return lines


SNAPSHOT_TAKEN = ("looking for changes", "no transaction has written since the last sync")
"""What an extract says when it has taken its snapshot."""


class Points:
    """Takes steps at points of a sync: planned, snapshot, batch, keys, staged."""

    def __init__(self, look: Callable[[], Picture], steps: dict[str, list[Step]], play: Callable[[Step], None]) -> None:
        self._look = look
        self._steps = dict(steps)
        self._play = play
        self.seen: Picture | None = None
        self.failure: BaseException | None = None

    def __call__(self, progress: Progress) -> None:
        try:
            self._told(progress)
        except BaseException as error:
            self.failure = self.failure or error
            raise

    def _told(self, progress: Progress) -> None:
        if progress.station == "snapshot":
            self._reach("planned")
        elif progress.station == "merge":
            self._reach("staged")
        elif progress.station == "extract":
            is_first = self.seen is None
            if is_first or progress.note in SNAPSHOT_TAKEN:
                # The engine's snapshot is taken, and nothing can have happened since: this one sees the same. Of a load
                # by chunks it is the last one, which closes it.
                self.seen = self._look()
            if is_first:
                self._reach("snapshot")
            else:
                self._reach("keys" if "keys" in progress.note else "batch")

    def _reach(self, point: str) -> None:
        for step in self._steps.pop(point, ()):
            self._play(step)


class Runner:
    """Plays one history on servers that are there."""

    def __init__(
        self, servers: Servers, history: History, spool: Path, tally: Tally, beat: Callable[[], None] = lambda: None
    ) -> None:
        self.history = history
        self._beat = beat
        self.world = World(servers, history)
        self.tally = tally
        self._spool = spool
        self._servers = servers
        self._open = ExitStack()
        self._opened: dict[int, tuple[int, tuple[Database, Database]]] = {}
        self.literal = history
        """The history, when it has been played, with what its steps chose."""
        self.copies = [self._copy(number, told) for number, told in enumerate(history.copies)]

    def play(self) -> None:
        """Play it.

        Raises:
            Wrong: a sync or verify did what it must not.
        """
        self.tally.histories += 1
        self._beat()
        try:
            self.world.make()
            for copy, told in zip(self.copies, self.history.copies, strict=True):
                for step in told["config"]:
                    self._configure(copy, step)
            for step in self.history.steps:
                self.step(step)
            self._end()
        finally:
            self._open.close()
            self.history.played = self.world.log
            self.tally.done += self.world.done
            self.literal = self.history.with_choices(self.world.literal)
            self.world.close()

    def step(self, step: Step) -> None:
        """Take one step."""
        self._beat()
        if step["do"] == "sync":
            self._sync(self.copies[step["copy"]], step)
        elif step["do"] == "verify":
            self._verify(self.copies[step["copy"]], step.get("inside", []))
        elif step["do"] == "config":
            self._configure(self.copies[step["copy"]], step)
        else:
            hidden = self.copies[step["hidden"]].options.get("exclude_columns", ()) if "hidden" in step else ()
            self.world.play(step, hidden)

    def _copy(self, number: int, told: dict[str, Any]) -> Copy:
        table = self.history.tables[told["table"]]
        can_track = self._servers.version >= 17
        copy = Copy(number, self.world.name(told["table"]), table["kind"], table["database"], can_track)
        if told.get("by_blocks") and can_track:
            copy.options["track_blocks"] = True
        copy.names_key = told.get("names_key", False)
        copy.retired = told.get("unused", False)
        return copy

    def _configure(self, copy: Copy, step: Step) -> None:
        oracle = self.world.oracle(copy.database)
        if step["what"] == "resync":
            self.world.say(f"resync {copy.target}")
            resync_tables(self._config(copy))
            return
        if "options" in step:
            copy.options = dict(step["options"])
        else:
            copy.switch(step, oracle.columns(copy.table))
        self._mend(copy)
        self.world.literal[id(step)] = {"options": dict(copy.options)}
        self.world.say(f"{copy.target} is now {copy.config()}")

    def _mend(self, copy: Copy) -> bool:
        """Take out of a copy's configuration what the source does not know; whether there was something."""
        oracle = self.world.oracle(copy.database)
        mended = copy.repair(oracle.columns(copy.table))
        where = copy.options.get("where")
        if where and oracle.columns(copy.table) and oracle.expression_error(copy.table, where):
            del copy.options["where"]
            return True
        return mended

    def _config(self, copy: Copy, **settings: Any) -> ReplicationConfig:
        return parse_config(
            {
                "source": self._servers.source.url(SOURCES[copy.database], self.history.role),
                "target": self._servers.target.url(TARGET),
                "settings": {"spool": str(self._spool), "workers": 1, **SETTINGS, **settings},
                "tables": [copy.config()],
            }
        )

    def _end(self) -> None:
        """Every copy must get through when nothing disturbs it any more."""
        self.world.say("the end: nothing disturbs any more")
        for copy in self.copies:
            self._beat()
            for attempt in range(1, LAST_ATTEMPTS + 1):
                self.world.quiet()
                self.world.part_twins()
                last = {"do": "sync", "copy": copy.number, "workers": 1, "batch": 1000, "verify": True}
                error = self._sync(copy, last)
                if error is None or copy.retired:
                    break
                if attempt == LAST_ATTEMPTS:
                    raise Wrong(f"{copy.target} does not get through, though nothing disturbs it: {error}")

    def _sync(self, copy: Copy, step: Step) -> BaseException | None:
        """One sync, judged; its error, or None if it was made or there was nothing to copy."""
        world = self.world
        oracle = world.oracle(copy.database)
        if copy.retired or not oracle.columns(copy.table):
            return None
        if self._mend(copy):
            world.say(f"{copy.target} is now {copy.config()}")
        before, hurt, began = oracle.image(copy.target), world.hurt, time.monotonic()

        def play(inner: Step) -> None:
            world.reading = points.seen is not None and not staged(inner)
            try:
                world.play(inner)
            finally:
                world.reading = False

        def staged(inner: Step) -> bool:
            return inner in step.get("inside", {}).get("staged", [])

        # Looked at anew each time: a crash takes the oracle's sessions, too.
        points = Points(lambda: copy.picture(world.oracle(copy.database)), step.get("inside", {}), play)
        world.say(f"sync {copy.target}")
        config = self._config(copy, workers=step["workers"], batch_size=step["batch"])
        try:
            result = self._run(copy, config, points)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
            if points.failure and not isinstance(points.failure, psycopg2.Error):
                raise points.failure from None
            self._failed(copy, before, error, points, hurt)
            return error
        self.tally.syncs += 1
        self.tally.paths[re.sub(r"[0-9A-F]+/[0-9A-F]+|[0-9,.]+", "N", result.path or "")[:110]] += 1
        said = f"{result.mode}: {result.reason}; {result.path}"
        counts = f"+{result.rows_inserted} ~{result.rows_updated} -{result.rows_deleted} of {result.rows_extracted}"
        world.say(f"    {counts} {said}")
        ended = time.monotonic()
        if points.seen is None:
            raise Wrong(f"{copy.target}: the sync never said that its snapshot was taken")
        oracle = world.oracle(copy.database)
        judge_sync(copy, points.seen, oracle, result, began, ended)
        copy.refused, copy.hurt_then, copy.allows_many = 0, hurt, False
        copy.config_then, copy.seen = copy.config(), points.seen
        if step.get("verify"):
            self._verify(copy)
        return None

    def _run(self, copy: Copy, config: ReplicationConfig, points: Points) -> TableResult:
        source, target = self._databases(copy)
        spool, (table,) = Spool.open(config.settings), config.tables
        context = SyncContext(
            source, target, spool, config.settings, allow_mass_delete=copy.allows_many, on_progress=points
        )
        return sync_table(context, table)

    def _databases(self, copy: Copy) -> tuple[Database, Database]:
        """The engine's two databases, with the connections that they have, as those of a process that syncs on and on.

        Those to a server that was hurt since are gone. To make new ones for each sync would take longer than the sync.
        """
        hurt, opened = self.world.hurt, self._opened.get(copy.database)
        if opened is None or opened[0] != hurt:
            self._opened[copy.database] = opened = (
                hurt, self._open.enter_context(open_databases(self._config(copy, workers=2))),
            )  # fmt: skip
        return opened[1]

    def _failed(self, copy: Copy, before: Image, error: Exception, points: Points, hurt: int) -> None:
        """Judge a sync that was not made.

        Raises:
            Wrong: it had no reason, or it changed the target.
        """
        world = self.world
        self.tally.failed += 1
        self.tally.reasons[f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"] += 1
        world.say(f"    not made: {type(error).__name__}: {' '.join(str(error).split())}")
        oracle = world.oracle(copy.database)
        if change := before.change(oracle.image(copy.target)):
            raise Wrong(f"{copy.target}: a sync that failed ({error}) has changed the target: {change}")
        if not isinstance(error, errors.XminAssetsError):
            if isinstance(error, psycopg2.Error) and world.hurt > hurt:
                return
            raise Wrong(f"{copy.target}: unexpected {type(error).__name__}: {error}") from error
        if isinstance(error, errors.ConnectionFailed):
            self._opened.pop(copy.database, None)
        if isinstance(error, MAY_PASS) or world.hurt > hurt:
            copy.blocked += isinstance(error, errors.LockTimeout)
            if copy.blocked > 1:
                world.unblock()
                copy.blocked = 0
            return
        passes = isinstance(error, errors.TransientError) and not isinstance(error, errors.TargetDrifted)
        if passes and world.servers.is_hampered:
            return  # what is not on disk yet is waited for in vain
        if not oracle.columns(copy.table) or self._mend(copy):
            return  # the table is gone, or the configuration names what is gone
        if isinstance(error, errors.TargetDrifted) and world.hurt > copy.hurt_then:
            return  # a source that was restarted was found not to be what it was
        if isinstance(error, errors.DataInvalid):
            pictures = [points.seen, copy.picture(oracle)]
            if any(picture.repeats_keys for picture in pictures if picture):
                return
        if isinstance(error, errors.UnsupportedTable) and not copy.names_key:
            copy.names_key = True  # a person would, of a table that has lost its primary key
            return
        if isinstance(error, errors.MassDelete) or "Mass" in type(error).__name__:
            copy.allows_many = True
            return
        if isinstance(error, REFUSED):
            copy.refused += 1
            if copy.refused >= REFUSALS:
                self._start_anew(copy)
            return
        raise Wrong(f"{copy.target}: a sync failed for no reason: {type(error).__name__}: {error}")

    def _start_anew(self, copy: Copy) -> None:
        """Do what a person does after a refusal: drop the target, and the types that nothing uses any more."""
        self.world.say(f"drop {copy.target}, which was refused")
        with self.world.oracle(copy.database).connected_target.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {copy.target}")
            for name in ("feeling", "tag", "pair", "size", "mood"):
                with suppress(psycopg2.Error):
                    cursor.execute(f"DROP TYPE IF EXISTS public.{name}")
        if copy.refused > 2 * REFUSALS:
            copy.retired = True
            self.tally.retired += 1
        copy.once, copy.columns = {}, ()

    def _verify(self, copy: Copy, inside: Sequence[Step] = ()) -> None:
        """Compare a copy that was made, with steps between the beginning and the end of it.

        Raises:
            Wrong: verify says what is not so.
        """
        world = self.world
        if copy.seen is None or copy.config_then != copy.config() or copy.hurt_then != world.hurt:
            return  # never made, made otherwise, or made of a source that may have lost something since
        config, rest = self._config(copy), list(inside)

        def told(_: Progress) -> None:
            world.reading = True
            try:
                while rest:
                    world.play(rest.pop(0))
            finally:
                world.reading = False

        world.say(f"verify {copy.target}")
        try:
            source, target = self._databases(copy)
            found = verify_table(source, target, config.tables[0], config.settings, on_progress=told)
        except errors.TransientError as error:
            world.say(f"    not verified: {error}")
            return
        except errors.XminAssetsError as error:
            world.say(f"    not comparable: {error}")
            with suppress(psycopg2.Error):  # the oracle cannot read the table as it is configured, either
                if world.hurt == copy.hurt_then and copy.picture(world.oracle(copy.database)).shape == copy.seen.shape:
                    raise Wrong(f"verify of {copy.target} refuses: {error}") from error
            return
        self.tally.verified += 1
        world.say(f"    verify: {found.status}, {found.pending} pending; {found.note}")
        if world.hurt == copy.hurt_then:
            judge_verify(copy, copy.seen, world.oracle(copy.database), found, exactly=not inside)
