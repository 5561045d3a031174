"""What the statements of one merge are about: the target's rows, the staged ones, and how they are matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.state.migrations import SCHEMA


@dataclass(frozen=True)
class RowMerge:
    """The rows of one merge. In all its statements a target row is ``t`` and a staged row is ``s``."""

    cursor: ext.cursor
    """In the merge transaction; the target is locked against other writers."""
    table: TableConfig
    selection: Selection
    """What is copied, as the target has it."""
    staged_name: str
    """Of the staged table, in the schema xmin_assets."""
    same_key: sql.Composable | None
    """The condition that a target row and a staged row have the same key; None where rows are not matched by one."""
    types: Mapping[str, str]
    """Of the target's columns, by their names: somebody may have altered one."""
    target_oid: int

    @property
    def matched(self) -> sql.Composable:
        """The condition by which rows are matched, where there is one."""
        assert self.same_key is not None
        return self.same_key

    @property
    def target(self) -> sql.Composable:
        """The target table."""
        return self.table.target_name.sql

    @property
    def staged(self) -> sql.Composable:
        """The staged table."""
        return staged_table(self.staged_name)


@dataclass
class Written:
    """How many rows of the target a merge has written."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0


def staged_table(name: str) -> sql.Identifier:
    """Return a staged table of this name as SQL."""
    return sql.Identifier(SCHEMA, name)
