"""The operations that alter a target table's columns."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2 import sql

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.manifests.table import Column, Selection
from xmin_assets.replication.schema.metadata_columns import target_columns


@dataclass(frozen=True)
class AddColumn:
    """A column that the target lacks."""

    name: str
    type: str
    is_metadata: bool = False
    collation: str | None = None

    def statement(self, target: QualifiedName) -> sql.Composed:
        """ALTER TABLE ... ADD COLUMN."""
        return sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(
            target.sql, _definition(self.name, self.type, self.collation)
        )


@dataclass(frozen=True)
class RenameColumn:
    """A column that has another name at the source now."""

    name: str
    to: str

    def statement(self, target: QualifiedName) -> sql.Composed:
        """ALTER TABLE ... RENAME COLUMN."""
        return sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(
            target.sql, sql.Identifier(self.name), sql.Identifier(self.to)
        )


@dataclass(frozen=True)
class AlterColumnType:
    """A column that has another type at the source now."""

    name: str
    type: str
    was: str
    collation: str | None = None

    def statement(self, target: QualifiedName) -> sql.Composed:
        """ALTER TABLE ... ALTER COLUMN ... TYPE."""
        return sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}{}").format(
            target.sql, sql.Identifier(self.name), sql.SQL(self.type), _collate(self.collation)
        )


@dataclass(frozen=True)
class DropNotNull:
    """A column that the source no longer fills and the target must not demand."""

    name: str

    def statement(self, target: QualifiedName) -> sql.Composed:
        """ALTER TABLE ... ALTER COLUMN ... DROP NOT NULL."""
        return sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(target.sql, sql.Identifier(self.name))


@dataclass(frozen=True)
class DropColumn:
    """A column that is no longer copied and is not to be kept."""

    name: str

    def statement(self, target: QualifiedName) -> sql.Composed:
        """ALTER TABLE ... DROP COLUMN."""
        return sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(target.sql, sql.Identifier(self.name))


@dataclass(frozen=True)
class DropDefault:
    """A column that the target has from a time when the source's column of this name was another one."""

    name: str

    def statement(self, target: QualifiedName) -> sql.Composed:
        """ALTER TABLE ... DROP DEFAULT: the values come with the rows."""
        return sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT").format(target.sql, sql.Identifier(self.name))


ColumnOperation = AddColumn | RenameColumn | AlterColumnType | DropDefault | DropNotNull | DropColumn


def now_called(names: tuple[str, ...], changes: tuple[ColumnOperation, ...]) -> tuple[str, ...]:
    """What these columns of the target are called after the changes."""
    called = []
    for name in names:
        for change in changes:
            if isinstance(change, RenameColumn) and change.name == name:
                name = change.to
        called.append(name)
    return tuple(called)


def rereads_rows(changes: tuple[ColumnOperation, ...]) -> bool:
    """Whether values may have changed that no xmin tells of: a column with a fast default, a new type."""
    return any(
        isinstance(change, (AlterColumnType, DropDefault)) or (isinstance(change, AddColumn) and not change.is_metadata)
        for change in changes
    )


def describe(changes: tuple[ColumnOperation, ...]) -> str:
    """The changes in words."""
    words = []
    for change in changes:
        if isinstance(change, AddColumn):
            words.append(f"column {change.name} added")
        elif isinstance(change, RenameColumn):
            words.append(f"column {change.name} renamed to {change.to}")
        elif isinstance(change, AlterColumnType):
            words.append(f"column {change.name} is now {change.type}")
        elif isinstance(change, DropDefault):
            words.append(f"column {change.name} is another one now")
        elif isinstance(change, DropColumn):
            words.append(f"column {change.name} dropped")
        else:
            words.append(f"column {change.name} no longer copied")
    return ", ".join(words)


def column_definitions(columns: tuple[Column, ...]) -> list[sql.Composable]:
    """Column definitions for CREATE TABLE: names and types, nothing else of the source."""
    return [_definition(column.name, column.type, column.collation) for column in columns]


def create_statement(target: QualifiedName, selection: Selection) -> sql.Composed:
    """CREATE TABLE of a target, as people are shown it: the staged table is made so and renamed."""
    definitions = column_definitions(target_columns(selection))
    if selection.key:
        key = sql.SQL(", ").join(map(sql.Identifier, selection.key))
        definitions.append(sql.SQL("PRIMARY KEY ({})").format(key))
    return sql.SQL("CREATE TABLE {} ({})").format(target.sql, sql.SQL(", ").join(definitions))


def _definition(name: str, type_: str, collation: str | None) -> sql.Composed:
    # format_type() prints a type as SQL, quoted where that is needed.
    return sql.SQL("{} {}{}").format(sql.Identifier(name), sql.SQL(type_), _collate(collation))


def _collate(collation: str | None) -> sql.Composable:
    return sql.SQL(" COLLATE {}").format(sql.SQL(collation)) if collation else sql.SQL("")


def in_order(renames: list[RenameColumn]) -> list[RenameColumn]:
    """Names that are still in use are freed first; where they form a circle, by way of a name that nobody has."""
    ordered: list[RenameColumn] = []
    waiting = list(renames)
    while waiting:
        in_use = {rename.name for rename in waiting}
        free = [rename for rename in waiting if rename.to not in in_use]
        if not free:
            first, away = waiting[0], f"xmin_assets renames {len(ordered)}"
            ordered.append(RenameColumn(first.name, away))
            waiting = [RenameColumn(away, first.to), *waiting[1:]]
        ordered += free
        waiting = [rename for rename in waiting if rename not in free]
    return ordered
