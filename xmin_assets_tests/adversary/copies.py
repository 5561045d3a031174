"""One copy of a table: its configuration, which changes as the history goes, and what the oracle knows about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from xmin_assets.replication.scan.ranges import BLOCK_SIZE
from xmin_assets_tests.adversary.history import Step
from xmin_assets_tests.adversary.oracle import KEY, Oracle, Picture, Row
from xmin_assets_tests.adversary.tables import condition
from xmin_assets_tests.adversary.weights import INTERVAL

MARGIN = 0.05
"""Seconds by which the oracle's clock and the servers' are taken to differ at most."""


@dataclass
class Copy:
    """A copy of a table of the history."""

    number: int
    table: str
    kind: str
    database: int
    can_track: bool
    names_key: bool = False
    """Whether the configuration names the key, though there is a primary one."""
    options: dict[str, Any] = field(default_factory=dict)
    once: dict[Row, set[Row]] = field(default_factory=dict)
    """Keys that the copy may have, with the rows that it had of them."""
    columns: tuple[str, ...] = ()
    """Those of the last sync."""
    compared: tuple[float, float] = (0.0, 0.0)
    """When deletes were last looked for: not before the first time, and not after the second."""
    hurt_then: int = 0
    """`World.hurt` when the last sync began: what it saw may have been undone by what came after that."""
    config_then: dict[str, Any] | None = None
    """The configuration at the last sync."""
    seen: Picture | None = None
    """What the source was then."""
    allows_many: bool = False
    """Whether the next sync may delete, or change, as much as it likes."""
    refused: int = 0
    """How often in a row it was refused for good."""
    blocked: int = 0
    """How often it found a table locked."""
    without_summaries: bool = False
    retired: bool = False

    @property
    def target(self) -> str:
        """The target table."""
        return f"public.c{self.number}"

    def config(self) -> dict[str, Any]:
        """As the configuration has it."""
        made = {"source": f"public.{self.table}", "target": self.target, **self.options}
        if self.number % 2:  # a chunk of such a copy is a block
            made["load_chunk"] = BLOCK_SIZE
        if self.kind == "loose" or self.names_key:
            made["key"] = list(KEY)
        if self.without_summaries:
            made["wal_summaries"] = False
        if made.get("mode") == "full_sync":
            made.pop("track_blocks", None)
        return made

    @property
    def deletes(self) -> str:
        return str(self.options.get("deletes", "hard"))

    @property
    def interval(self) -> float | None:
        """Seconds between two looks for deleted rows; None for every sync."""
        said = self.options.get("delete_detection", "every_sync")
        return None if said == "every_sync" else float(said)

    @property
    def not_deleted(self) -> str:
        """The condition on the target's rows that are there for its readers."""
        return "source_deleted_at IS NULL" if self.deletes == "soft" else "true"

    def picture(self, oracle: Oracle) -> Picture:
        """What the copy is to be now.

        Raises:
            psycopg2.Error: there is no such table, or the condition does not hold for it.
        """
        options = self.options
        return oracle.source(
            self.table, options.get("where"), options.get("columns"), options.get("exclude_columns", ())
        )

    def is_due(self, began: float) -> bool:
        """Whether a sync that begins then looks for deleted rows for certain."""
        return self.interval is None or began - self.compared[1] > self.interval + MARGIN

    def note_look(self, began: float, ended: float, *, certain: bool) -> None:
        """Note when deletes were, or may have been, looked for."""
        if certain:
            self.compared = began, ended
        elif self.interval is None or ended - self.compared[0] > self.interval - MARGIN:
            self.compared = self.compared[0], ended

    def switch(self, step: Step, columns: dict[str, str]) -> None:
        """Change the configuration.

        Args:
            step: what of it, and a number that chooses how.
            columns: the source table's, with their types.
        """
        rnd, what = Random(step["n"]), step["what"]
        if what == "deletes":
            self._set(what, rnd.choice(["hard", "hard", "soft", "ignore"]))
        elif what == "delete_detection":
            self._set(what, step.get("to") or rnd.choice(["every_sync", INTERVAL]))
            if self.deletes == "ignore":
                self._set("deletes", "hard")
        elif what == "track_blocks":
            self._set(what, self.can_track and not self.options.get(what))
        elif what == "wal_summaries":
            self.without_summaries = not self.without_summaries
        elif what == "mode":
            self._set(what, "xmin_incremental" if self.options.get(what) else "full_sync")
        elif what == "dropped_columns":
            self._set(what, rnd.choice(["keep", "drop"]))
        elif what == "type_overrides":
            narrow = [name for name, kind in columns.items() if kind in ("boolean", "character(3)", "mood", "size")]
            self._set(what, {name: "text" for name in narrow if rnd.random() < 0.5})
        elif what == "where":
            self._set(what, self._condition(rnd, columns) if rnd.random() < 0.7 else None)
        elif what == "hidden_where":
            kind = rnd.choice(["boolean", "boolean", "integer"])
            alike = {name: of for name, of in columns.items() if of == kind and name not in KEY}
            self._set("columns", None)
            self._set("exclude_columns", list(alike))
            self._set("where", self._condition(rnd, alike))
        elif what == "columns":
            some = [name for name in columns if name not in KEY and rnd.random() < 0.5]
            which = rnd.choice([None, "columns", "exclude_columns"])
            self._set("columns", [*KEY, *some] if which == "columns" else None)
            self._set("exclude_columns", some if which == "exclude_columns" else None)

    def repair(self, columns: dict[str, str]) -> bool:
        """Take out of the configuration what names columns that are gone; whether there was something."""
        before = dict(self.options)
        for name in ("columns", "exclude_columns"):
            if name in self.options:
                self._set(name, [column for column in self.options[name] if column in columns])
        self._set("type_overrides", {k: v for k, v in self.options.get("type_overrides", {}).items() if k in columns})
        return before != self.options

    def _set(self, name: str, value: Any) -> None:
        self.options.pop(name, None)
        if value:
            self.options[name] = value

    @staticmethod
    def _condition(rnd: Random, columns: dict[str, str]) -> str | None:
        made = [
            one
            for name, kind in columns.items()
            if name not in KEY and (one := condition(name, kind.split("(")[0], rnd.randrange(100)))
        ]
        return rnd.choice(made) if made else None
