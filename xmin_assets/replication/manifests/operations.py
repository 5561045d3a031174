"""What a sync does to the columns and the key of a target table: operations, decided once and carried in the plan.

Each knows its statement, its description for people, and what it means for the rows. A new operation is a subclass of
`Operation`, and a member of `ColumnOperation` where it is about a column: mypy names what it lacks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from psycopg2 import sql
from pydantic import Discriminator

from xmin_assets.postgres.identifiers import QualifiedName, collate_clause
from xmin_assets.postgres.narrower_types import holds_less

CHANGE_IT = "Change what the message names, and run the sync again."
"""Advice where nothing better is known."""


class Operation(ABC):
    """One change of a target table."""

    @abstractmethod
    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build the statement that changes the table."""

    @abstractmethod
    def describe(self) -> str:
        """Say what changed, as a part of a sentence."""

    @property
    @abstractmethod
    def rereads_rows(self) -> bool:
        """Whether values may have changed without a new xmin, so that every row must be read again."""

    @property
    def follows_rows(self) -> bool:
        """Whether it is done when the rows are written: what the target has until then may not fit."""
        return False

    @property
    def altered_column(self) -> str | None:
        """The column that no view may depend on meanwhile, by its name after all renames; None where views may."""
        return None

    @property
    def new_column(self) -> str | None:
        """The column of which the catalog may prove that it changed no value (see `unchanged_values`), by its name."""
        return None

    @property
    def advice(self) -> str:
        """What a person can do where the server refuses the statement."""
        return CHANGE_IT


@dataclass(frozen=True)
class AddColumn(Operation):
    """A column that the target lacks."""

    name: str
    type: str
    """As format_type() prints it, which is SQL."""
    is_metadata: bool = False
    """Whether it is one of our own, and not the source's."""
    collation: str | None = None
    """Quoted and qualified, if it is not the type's own."""
    operation: Literal["add_column"] = field(default="add_column", kw_only=True)

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... ADD COLUMN."""
        return sql.SQL("ALTER TABLE {target} ADD COLUMN {column}").format(
            target=target.sql, column=column_definition(self.name, self.type, self.collation)
        )

    def describe(self) -> str:
        """Say that the column is new."""
        return f"column {self.name} added"

    @property
    def rereads_rows(self) -> bool:
        """True for a column of the source: a default that is not NULL fills old rows without writing them."""
        return not self.is_metadata

    @property
    def new_column(self) -> str:
        """Without a default the column is NULL in old rows, at the source and in the target."""
        return self.name


@dataclass(frozen=True)
class RenameColumn(Operation):
    """A column that has another name at the source now."""

    name: str
    to: str
    operation: Literal["rename_column"] = field(default="rename_column", kw_only=True)

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... RENAME COLUMN."""
        return sql.SQL("ALTER TABLE {target} RENAME COLUMN {column} TO {name}").format(
            target=target.sql, column=sql.Identifier(self.name), name=sql.Identifier(self.to)
        )

    def describe(self) -> str:
        """Name both names."""
        return f"column {self.name} renamed to {self.to}"

    @property
    def rereads_rows(self) -> bool:
        """A name is no value."""
        return False


@dataclass(frozen=True)
class AlterColumnType(Operation):
    """A column that has another type or collation at the source now."""

    name: str
    type: str
    was: str
    """The target's type until now."""
    collation: str | None = None
    override_ended: bool = False
    """Whether it was the configuration that has changed: `type_overrides` no longer names the column."""
    is_renamed: bool = False
    """Whether it is the same type under another name, so that values go from the one to the other by their texts."""
    relabelled: tuple[tuple[str, str], ...] = ()
    """Labels of a renamed enum that were renamed, too: the text before, and now."""
    is_refilled: bool = False
    """Whether its values are not converted, but read again from the source."""
    was_not_null: bool = False
    """Whether the target demands a value, which it cannot do before the column is filled again."""
    stage: Literal["first", "last"] | None = None
    """Of a change by way of an interim type, which holds the rows before and after: whether it is the first one, or the
    last, that comes when the rows are written."""
    operation: Literal["alter_column_type"] = field(default="alter_column_type", kw_only=True)

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... ALTER COLUMN ... TYPE."""
        column = sql.Identifier(self.name)
        nullable = sql.SQL("ALTER COLUMN {} DROP NOT NULL, ").format(column)
        return sql.SQL("ALTER TABLE {target} {nullable}ALTER COLUMN {column} TYPE {type}{collate}{using}").format(
            target=target.sql,
            nullable=nullable if self.is_refilled and self.was_not_null else sql.SQL(""),
            column=column,
            type=sql.SQL(self.type),
            collate=collate_clause(self.collation),
            using=self.using(self.name),
        )

    def using(self, column: str) -> sql.Composable:
        """Build what converts a column's values; nothing where PostgreSQL does it by itself."""
        if self.is_refilled:
            return sql.SQL(" USING NULL")
        if not self.is_renamed:
            return sql.SQL("")
        text: sql.Composable = sql.SQL("{}::pg_catalog.text").format(sql.Identifier(column))
        if self.relabelled:
            cases = [
                sql.SQL("WHEN {} THEN {}").format(sql.Literal(was), sql.Literal(now)) for was, now in self.relabelled
            ]
            text = sql.SQL("CASE {text} {cases} ELSE {text} END").format(text=text, cases=sql.SQL(" ").join(cases))
        return sql.SQL(" USING ({})::{}").format(text, sql.SQL(self.type))

    def describe(self) -> str:
        """Name the new type."""
        if self.stage == "first":
            return f"column {self.name} is {self.type} until the rows are written"
        return f"column {self.name} is now {self.type}{' and filled again' if self.is_refilled else ''}"

    @property
    def rereads_rows(self) -> bool:
        """Values may print otherwise, whether or not a row was written."""
        return True

    @property
    def new_column(self) -> str:
        """A modifier that is only wider changes no value."""
        return self.name

    @property
    def follows_rows(self) -> bool:
        """True for a type that holds less: rows that do not fit are deleted or updated first, as at the source."""
        if self.is_refilled or self.stage == "first":
            return False
        return self.stage == "last" or holds_less(self.type, self.was)

    @property
    def altered_column(self) -> str:
        """PostgreSQL alters no column that a view uses."""
        return self.name

    @property
    def advice(self) -> str:
        """What to do where PostgreSQL does not convert the values by itself."""
        return (
            f"To have its values read again from the source, run xmin-assets sync TABLE --refill {self.name}, or set "
            f"convert: [{self.name}]. Or convert the target's column yourself (ALTER COLUMN ... TYPE {self.type} "
            f"USING ...), store it as text with type_overrides: {{{self.name}: text}}, or leave it out with "
            f"exclude_columns: [{self.name}]."
        )


@dataclass(frozen=True)
class SetNotNull(Operation):
    """A column that was filled again, and in which the target demands a value."""

    name: str
    operation: Literal["set_not_null"] = field(default="set_not_null", kw_only=True)

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... ALTER COLUMN ... SET NOT NULL."""
        return sql.SQL("ALTER TABLE {target} ALTER COLUMN {column} SET NOT NULL").format(
            target=target.sql, column=sql.Identifier(self.name)
        )

    def describe(self) -> str:
        """Say what the column must have."""
        return f"column {self.name} must have a value again"

    @property
    def rereads_rows(self) -> bool:
        """The column is filled before."""
        return False

    @property
    def follows_rows(self) -> bool:
        """True: until then it is NULL."""
        return True


@dataclass(frozen=True)
class DropNotNull(Operation):
    """A column that the source does not fill, or no longer does, so that the target must not demand a value."""

    name: str
    was_copied: bool = True
    is_copied: bool = False
    """Whether it still is, and the source has ceased to demand a value, too."""
    operation: Literal["drop_not_null"] = field(default="drop_not_null", kw_only=True)

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... ALTER COLUMN ... DROP NOT NULL."""
        return sql.SQL("ALTER TABLE {target} ALTER COLUMN {column} DROP NOT NULL").format(
            target=target.sql, column=sql.Identifier(self.name)
        )

    def describe(self) -> str:
        """Say that the column is only kept, or has never been copied, or may lack a value."""
        if self.is_copied:
            return f"column {self.name} may be NULL"
        return f"column {self.name} {'no longer' if self.was_copied else 'not'} copied"

    @property
    def rereads_rows(self) -> bool:
        """What the column has stays."""
        return False


@dataclass(frozen=True)
class DropColumn(Operation):
    """A column that is no longer copied and is not to be kept."""

    name: str
    operation: Literal["drop_column"] = field(default="drop_column", kw_only=True)

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... DROP COLUMN."""
        return sql.SQL("ALTER TABLE {target} DROP COLUMN {column}").format(
            target=target.sql, column=sql.Identifier(self.name)
        )

    def describe(self) -> str:
        """Say that the column goes."""
        return f"column {self.name} dropped"

    @property
    def rereads_rows(self) -> bool:
        """The other columns stay as they are."""
        return False

    @property
    def altered_column(self) -> str:
        """PostgreSQL drops no column that a view uses."""
        return self.name


@dataclass(frozen=True)
class DropDefault(Operation):
    """A column that the target has from a time when the source's column of this name was another one.

    Its values come with the rows that are read again; a default of its own would fill new ones.
    """

    name: str
    operation: Literal["drop_default"] = field(default="drop_default", kw_only=True)

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... ALTER COLUMN ... DROP DEFAULT."""
        return sql.SQL("ALTER TABLE {target} ALTER COLUMN {column} DROP DEFAULT").format(
            target=target.sql, column=sql.Identifier(self.name)
        )

    def describe(self) -> str:
        """Say that the name stands for another column."""
        return f"column {self.name} is another one now"

    @property
    def rereads_rows(self) -> bool:
        """Every value is another column's."""
        return True


@dataclass(frozen=True)
class DropExpression(Operation):
    """A column that is copied, and that the target computes itself."""

    name: str
    operation: Literal["drop_expression"] = field(default="drop_expression", kw_only=True)

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... ALTER COLUMN ... DROP EXPRESSION."""
        return sql.SQL("ALTER TABLE {target} ALTER COLUMN {column} DROP EXPRESSION").format(
            target=target.sql, column=sql.Identifier(self.name)
        )

    def describe(self) -> str:
        """Say whose values count."""
        return f"generated column {self.name} takes the source's values"

    @property
    def rereads_rows(self) -> bool:
        """What the target has computed may be something else."""
        return True


@dataclass(frozen=True)
class SetGeneratedByDefault(Operation):
    """An identity column that is copied, and that takes no value but its own."""

    name: str
    operation: Literal["set_generated_by_default"] = field(default="set_generated_by_default", kw_only=True)

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... ALTER COLUMN ... SET GENERATED BY DEFAULT."""
        return sql.SQL("ALTER TABLE {target} ALTER COLUMN {column} SET GENERATED BY DEFAULT").format(
            target=target.sql, column=sql.Identifier(self.name)
        )

    def describe(self) -> str:
        """Say whose values count."""
        return f"identity column {self.name} takes the source's values"

    @property
    def rereads_rows(self) -> bool:
        """The values that it has stay."""
        return False


ColumnOperation = Annotated[
    AddColumn
    | RenameColumn
    | AlterColumnType
    | SetNotNull
    | DropNotNull
    | DropColumn
    | DropDefault
    | DropExpression
    | SetGeneratedByDefault,
    Discriminator("operation"),
]
"""An operation on a column. In JSON its field `operation` says which one it is."""


@dataclass(frozen=True)
class DropKey(Operation):
    """The primary key that an earlier sync has left, and that the rows to come may repeat."""

    constraint: str
    nullable: tuple[str, ...]
    """Its columns that the new key does not have, as they are called before all renames: their NOT NULL outlives the
    primary key."""

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... DROP CONSTRAINT."""
        changes = [sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(self.constraint))]
        changes += [sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(name)) for name in self.nullable]
        return _alter_table(target, changes)

    def describe(self) -> str:
        """Name the constraint."""
        return f"key {self.constraint} dropped"

    @property
    def rereads_rows(self) -> bool:
        """That the key is another one is a reason of its own."""
        return False


@dataclass(frozen=True)
class AddKey(Operation):
    """The key by which rows are merged."""

    columns: tuple[str, ...]
    is_primary: bool
    """False where the table has a primary key of somebody else."""

    def statement(self, target: QualifiedName) -> sql.Composed:
        """Build ALTER TABLE ... ADD PRIMARY KEY, or ADD UNIQUE with NOT NULL columns."""
        columns = [sql.Identifier(name) for name in self.columns]
        kind = sql.SQL("PRIMARY KEY" if self.is_primary else "UNIQUE")
        changes = [sql.SQL("ADD {} ({})").format(kind, sql.SQL(", ").join(columns))]
        if not self.is_primary:  # a primary key brings NOT NULL along
            changes += [sql.SQL("ALTER COLUMN {} SET NOT NULL").format(column) for column in columns]
        return _alter_table(target, changes)

    def describe(self) -> str:
        """Name the columns."""
        return f"key ({', '.join(self.columns)}) added"

    @property
    def rereads_rows(self) -> bool:
        """That the key is another one is a reason of its own."""
        return False


def describe(operations: Sequence[Operation]) -> str:
    """Say what changed, in one line."""
    return ", ".join(operation.describe() for operation in operations)


def names_before(names: Sequence[str], operations: Sequence[Operation]) -> tuple[str, ...]:
    """Return what columns that have these names after the operations are called in the target now."""
    backwards = [
        RenameColumn(operation.to, operation.name)
        for operation in reversed(operations)
        if isinstance(operation, RenameColumn)
    ]
    return names_after(names, backwards)


def names_after(names: Sequence[str], operations: Sequence[Operation]) -> tuple[str, ...]:
    """Return what these columns of the target are called after the operations."""
    renamed = []
    for name in names:
        for operation in operations:
            if isinstance(operation, RenameColumn) and operation.name == name:
                name = operation.to
        renamed.append(name)
    return tuple(renamed)


def column_definition(name: str, type_: str, collation: str | None) -> sql.Composed:
    """Build a column's definition: its name, type and collation, and nothing else of the source."""
    # format_type() prints a type as SQL, quoted where that is needed.
    return sql.SQL("{name} {type}{collate}").format(
        name=sql.Identifier(name), type=sql.SQL(type_), collate=collate_clause(collation)
    )


def _alter_table(target: QualifiedName, changes: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL("ALTER TABLE {target} {changes}").format(target=target.sql, changes=sql.SQL(", ").join(changes))
