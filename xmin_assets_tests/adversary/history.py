"""A history: which tables there are and how they are copied, and what happens, as plain data drawn from a seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from xmin_assets_tests.adversary import weights

Step = dict[str, Any]

SESSIONS = 3


@dataclass
class History:
    """What is played."""

    seed: int
    tables: list[dict[str, Any]]
    """kind, rows, database (0 or 1), citext"""
    copies: list[dict[str, Any]]
    """table, and the configuration at the beginning"""
    steps: list[Step]
    role: str = "postgres"
    """As whom the source is read."""
    note: str = ""
    """What became of it, for people."""
    played: list[str] = field(default_factory=list)
    """What was done in the end, line by line, for people."""

    def write(self, path: Path) -> None:
        """As a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False, default=str) + "\n")

    def with_choices(self, choices: Mapping[int, Step]) -> History:
        """The same with what its steps chose when they were played, by their ids."""

        def chosen(step: Step) -> Step:
            made = {**step, **choices.get(id(step), {})}
            if isinstance(inside := step.get("inside"), dict):
                made["inside"] = {point: [chosen(inner) for inner in steps] for point, steps in inside.items()}
            elif inside:
                made["inside"] = [chosen(inner) for inner in inside]
            return made

        copies = [{**copy, "config": [chosen(step) for step in copy["config"]]} for copy in self.copies]
        return replace(self, copies=copies, steps=[chosen(step) for step in self.steps])

    @classmethod
    def load(cls, path: Path) -> History:
        """From a file."""
        return cls(**json.loads(path.read_text()))


def draw(seed: int) -> History:
    """The history of a seed."""
    return _Drawing(Random(seed)).history(seed)


class _Drawing:
    def __init__(self, rnd: Random) -> None:
        self.rnd = rnd
        self.tables: list[dict[str, Any]] = []
        self.copies: list[dict[str, Any]] = []

    def history(self, seed: int) -> History:
        rnd, databases = self.rnd, self.rnd.choice(weights.DATABASES)
        for _ in range(rnd.choice(weights.TABLES)):
            kind = self.pick(weights.KINDS)
            database = rnd.randrange(databases)
            citext = self.pick(weights.CITEXT) == "citext"
            self.tables.append({"kind": kind, "rows": rnd.choice(weights.ROWS), "database": database, "citext": citext})
        if databases == 2:
            self.tables[-1]["database"] = 1
        for table in range(len(self.tables)):
            for _ in range(rnd.choice([1, 2, 2, 3])):
                config = [self.config(len(self.copies)) for _ in range(rnd.choice([0, 1, 2]))]
                by_blocks, names_key = rnd.random() < weights.BY_BLOCKS, rnd.random() < weights.NAMES_KEY
                copy = {"table": table, "config": config, "by_blocks": by_blocks, "names_key": names_key}
                self.copies.append(copy)
        steps: list[Step] = []
        length = rnd.randrange(*weights.STEPS_OF_A_HISTORY)
        while len(steps) < length:
            steps += self.steps()
        return History(seed, self.tables, self.copies, steps, self.pick(weights.ROLES))

    def pick(self, weighted: dict[str, int]) -> str:
        return self.rnd.choices(list(weighted), list(weighted.values()))[0]

    @property
    def number(self) -> int:
        return self.rnd.randrange(1 << 30)

    def steps(self) -> list[Step]:
        kind = self.pick(weights.STEPS)
        if kind == "story":
            return STORIES[self.pick(weights.STORIES)](self)
        if kind == "sync":
            return [self.sync()]
        if kind == "config":
            return [self.config(self.copy())]
        if kind == "verify":
            return [self.verify()]
        if kind == "wait":
            return [self.wait()]
        if kind == "server":
            return [{"do": "server", "what": self.pick(weights.SERVER), "n": self.number}]
        return [self.event(kind)]

    def event(self, kind: str, table: int | None = None) -> Step:
        if kind == "type":
            return self.statement(self.pick(weights.TYPES), table, kind="type")
        if kind == "transaction":
            return {"do": kind, "what": self.pick(weights.TRANSACTIONS), "session": self.session(), "n": self.number}
        return self.statement(self.pick(weights.STATEMENTS), table)

    def session(self) -> int:
        return self.rnd.randrange(SESSIONS)

    def copy(self, of: int | None = None) -> int:
        fitting = [place for place, copy in enumerate(self.copies) if of is None or copy["table"] == of]
        return self.rnd.choice(fitting or range(len(self.copies)))

    def table(self, copy: int) -> int:
        return int(self.copies[copy]["table"])

    def statement(
        self, what: str, table: int | None = None, session: int | None = None, kind: str = "statement"
    ) -> Step:
        return {
            "do": kind,
            "what": what,
            "session": self.session() if session is None else session,
            "table": self.rnd.randrange(len(self.tables)) if table is None else table,
            "n": self.number,
        }

    def transaction(self, what: str, session: int) -> Step:
        return {"do": "transaction", "what": what, "session": session, "n": self.number}

    def server(self, what: str, number: int | None = None) -> Step:
        return {"do": "server", "what": what, "n": self.number if number is None else number}

    def config(self, copy: int, what: str | None = None) -> Step:
        return {"do": "config", "copy": copy, "what": what or self.pick(weights.CONFIG), "n": self.number}

    def wait(self) -> Step:
        return {"do": "wait", "seconds": round(self.rnd.choice([0.03, weights.INTERVAL + 0.1]), 2)}

    def sync(self, copy: int | None = None, *, alone: bool = False) -> Step:
        rnd = self.rnd
        step: Step = {
            "do": "sync",
            "copy": self.copy() if copy is None else copy,
            "workers": rnd.choice([1, 1, 1, 2]),
            "batch": rnd.choice([5, 1000]),
            "verify": rnd.random() < weights.VERIFY_SHARE,
        }
        if not alone and rnd.random() < weights.INSIDE_SHARE:
            inside: dict[str, list[Step]] = {}
            for point in rnd.sample(["planned", "snapshot", "batch", "keys", "staged"], rnd.choice([1, 1, 2])):
                inside[point] = [self.inside(point) for _ in range(rnd.choice([1, 2, 3]))]
            step["inside"] = inside
        return step

    def verify(self) -> Step:
        step: Step = {"do": "verify", "copy": self.copy()}
        if self.rnd.random() < weights.INSIDE_SHARE:
            step["inside"] = [self.inside("verify") for _ in range(self.rnd.choice([1, 2, 3]))]
        return step

    def inside(self, point: str) -> Step:
        rnd = self.rnd
        if rnd.random() < 0.05:
            return self.server(rnd.choice(["kill", "crash", "checkpoint", "reset_statistics", "stop_walwriter"]))
        if point in ("planned", "staged"):
            return self.event(rnd.choices(["statement", "transaction", "type"], [6, 3, weights.STEPS["type"] / 7])[0])
        if rnd.random() < 0.4:
            return self.event("transaction")
        return self.statement(rnd.choice(weights.DURING_EXTRACT))


def _slow_disk(draw: _Drawing) -> list[Step]:
    """Asynchronous commits and syncs while the disk is slow."""
    copy, session = draw.copy(), draw.session()
    table = draw.table(copy)
    steps = [draw.sync(copy, alone=True), draw.transaction("asynchronous", session), draw.server("slow")]
    for _ in range(draw.rnd.randrange(2, 6)):
        steps += [
            draw.statement(draw.rnd.choice(["update", "update", "insert", "delete", "change_key"]), table, session)
            for _ in range(draw.rnd.randrange(1, 4))
        ]
        steps.append(draw.sync(copy, alone=draw.rnd.random() < 0.7))
    return [*steps, draw.server("quick"), draw.sync(copy)]


def _lost_commits(draw: _Drawing) -> list[Step]:
    """Asynchronous commits that a sync sees and a crash undoes; then the ids are given out again."""
    copy, session = draw.copy(), draw.session()
    table = draw.table(copy)
    steps = [draw.sync(copy, alone=True), draw.transaction("asynchronous", session), draw.server("stop_walwriter")]
    steps += [draw.statement(draw.rnd.choice(["update", "insert", "delete"]), table, session) for _ in range(2)]
    steps += [draw.sync(copy, alone=True), draw.server(draw.rnd.choice(["kill", "kill", "crash"]))]
    for _ in range(draw.rnd.randrange(6)):
        # Some rows are locked and not written: an id is used up all the same.
        steps.append(draw.statement(draw.rnd.choice(["update", "insert", "lock", "lock"]), table))
    return [*steps, draw.sync(copy, alone=True), draw.statement("update", table), draw.sync(copy)]


def _late_deletes(draw: _Drawing) -> list[Step]:
    """Rows that are deleted while nobody looks, and nothing after it."""
    copy = draw.copy()
    table = draw.table(copy)
    steps: list[Step] = [
        {"do": "transaction", "what": "end_all", "session": 0, "n": 0},
        {**draw.config(copy, "delete_detection"), "to": weights.INTERVAL},
        draw.sync(copy, alone=True),
        draw.statement(draw.rnd.choice(["delete", "delete", "change_key", "truncate"]), table),
        draw.sync(copy, alone=True),
    ]
    if draw.rnd.random() < 0.3:
        steps += [draw.statement("update", table), draw.sync(copy, alone=True)]
    if draw.rnd.random() < 0.3:
        steps.append({**draw.config(copy, "delete_detection"), "to": "every_sync"})
    else:
        steps.append({"do": "wait", "seconds": weights.INTERVAL + 0.1})
    return [*steps, draw.sync(copy, alone=True)]


def _emptied_by_crash(draw: _Drawing) -> list[Step]:
    """A table that is empty after a crash, though no transaction has emptied it."""
    copy = draw.copy()
    table = draw.table(copy)
    crash = draw.server(draw.rnd.choice(["kill", "crash"]))
    unlogged = {**draw.statement("set_logged", table), "to": "UNLOGGED"}
    return [unlogged, draw.sync(copy, alone=True), draw.server("checkpoint"), crash, draw.sync(copy, alone=True)]


def _types_apart(draw: _Drawing) -> list[Step]:
    """A type that changes between the syncs of two copies that share it."""
    steps: list[Step] = []
    for _ in range(draw.rnd.randrange(1, 4)):
        one, two = draw.copy(), draw.copy()
        steps += [
            draw.event("type", draw.table(one)),
            draw.sync(one),
            draw.event("type", draw.table(two)),
            draw.sync(two),
        ]
        if draw.rnd.random() < 0.5:
            steps.append(draw.statement("update", draw.table(one)))
    return [*steps, draw.sync(), draw.sync()]


def _hidden_where(draw: _Drawing) -> list[Step]:
    """A condition on columns that are not copied, and what happens to these."""
    copy = draw.copy()
    table = draw.table(copy)
    change = draw.rnd.choice(["swap_columns", "readd_column", "alter_expression", "swap_columns"])
    return [
        draw.config(copy, "hidden_where"),
        draw.sync(copy, alone=True),
        {**draw.statement(change, table), "hidden": copy},
        draw.sync(copy),
    ]


def _twin_keys(draw: _Drawing) -> list[Step]:
    """A row that repeats a key while another one goes, where no index forbids it."""
    loose = [place for place, copy in enumerate(draw.copies) if draw.tables[copy["table"]]["kind"] == "loose"]
    copy = draw.rnd.choice(loose or range(len(draw.copies)))
    table = draw.table(copy)
    return [
        {**draw.statement("key_index", table), "to": "DROP"},
        draw.sync(copy, alone=True),
        draw.statement("twin", table),
        draw.sync(copy, alone=True),
        draw.statement("part_twins", table),
        draw.sync(copy),
    ]


def _long_transaction(draw: _Drawing) -> list[Step]:
    """A transaction with savepoints, perhaps a prepared one, among the syncs of other transactions' rows."""
    rnd, copy, session = draw.rnd, draw.copy(), draw.session()
    table, other = draw.table(copy), (session + 1) % SESSIONS

    def write(who: int) -> Step:
        what = rnd.choice(["insert", "update", "delete", "move", "change_key", "subtransactions", "partitions"])
        return draw.statement(what, table, who)

    steps = [draw.transaction(rnd.choice(["begin", "begin_asynchronous"]), session), write(session)]
    for what in rnd.sample(["savepoint", "savepoint", "rollback_to", "release", "sync", "other"], 4):
        if what == "sync":
            steps.append(draw.sync(copy))
        elif what == "other":
            steps += [write(other), draw.sync(copy)]
        else:
            steps += [draw.transaction(what, session), write(session)]
    steps.append(draw.sync(copy))
    if rnd.random() < 0.5:
        steps += [draw.transaction("prepare", session), draw.sync(copy), write(other)]
        if rnd.random() < 0.3:
            steps.append(draw.server(rnd.choice(["kill", "crash", "restart"])))
        steps += [draw.sync(copy), draw.transaction(rnd.choice(["commit_prepared", "rollback_prepared"]), other)]
    else:
        steps.append(draw.transaction(rnd.choice(["commit", "commit", "rollback"]), session))
    return [*steps, draw.sync(copy)]


def _switch_back(draw: _Drawing) -> list[Step]:
    """A setting that is changed for a while in which rows change."""
    copy, what = draw.copy(), draw.pick(weights.CONFIG)
    table = draw.table(copy)
    steps = [draw.sync(copy, alone=True)]
    for _ in range(2):
        steps += [draw.config(copy, what), draw.event("statement", table), draw.sync(copy, alone=True)]
    return [*steps, draw.statement("delete", table), draw.sync(copy)]


STORIES: dict[str, Callable[[_Drawing], list[Step]]] = {
    "slow_disk": _slow_disk,
    "lost_commits": _lost_commits,
    "late_deletes": _late_deletes,
    "emptied_by_crash": _emptied_by_crash,
    "types_apart": _types_apart,
    "hidden_where": _hidden_where,
    "twin_keys": _twin_keys,
    "switch_back": _switch_back,
    "long_transaction": _long_transaction,
}
