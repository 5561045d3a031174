"""What a source table is, and what of it is copied."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from xmin_assets.config.deletes import Deletes
from xmin_assets.postgres.types import UserType


@dataclass(frozen=True)
class Column:
    """A column to be copied. `attnum` is what identifies it: names and types change."""

    attnum: int
    name: str
    type: str
    """As format_type() prints it, schema-qualified where it is not of pg_catalog."""
    virtual: str | None = None
    """The expression of a virtual generated column."""
    collation: str | None = None
    """Quoted and qualified, if it is not the type's own."""
    origin: str | None = None
    """The type at the source, where the target's is another one."""
    override: str | None = None
    """The type that the configuration asks for in the target, where it is not the source's."""
    compared_as: str | None = None
    """What a value is converted to at the source, so that it prints as in the target, where that is not `override`."""
    equality: str | None = ""
    """What tells its values apart at the source besides the type (see `catalog.Attribute`)."""
    not_null: bool | None = field(default=None, compare=False)
    """Whether the source demands a value; None in a state that did not remember it."""

    @property
    def source_type(self) -> str:
        """The type at the source."""
        return self.origin or self.type


@dataclass(frozen=True)
class Leaf:
    """A relation that stores rows: the table itself, or a leaf partition of it."""

    oid: int
    relfilenode: int
    schema: str
    name: str
    attnums: tuple[tuple[int, int], ...] = ()
    """Columns of the table that have another number here: their number in the table, and here."""


@dataclass(frozen=True)
class Identity:
    """Which cluster, history, database and relation the rows came from."""

    system_identifier: str
    timeline: int | None
    """None where the server does not tell."""
    database_oid: int
    relation_oid: int
    leaves: tuple[Leaf, ...]
    """None for a view: it stores no rows that have an xmin."""
    kind: str = "r"
    """pg_class.relkind."""
    definition: str = ""
    """A digest of a view's query."""
    last_attnum: int = 0
    """The highest number that a column of the relation has or had; 0 where it is not known."""
    database: str = field(default="", compare=False)
    """Its name, for people: a database that is renamed is the same one."""

    def with_leaves(self, leaves: tuple[Leaf, ...]) -> Identity:
        """Return the identity of the table with these leaves."""
        return replace(self, leaves=leaves)

    def is_same_relation_as(self, other: Identity) -> bool:
        """Return whether it is one relation: oids mean something only within one database of one cluster."""
        return (self.system_identifier, self.database_oid, self.relation_oid) == (
            other.system_identifier,
            other.database_oid,
            other.relation_oid,
        )


@dataclass(frozen=True)
class Terms:
    """What gives the where clause, and the expressions of virtual columns, their meaning beside their own text."""

    path: tuple[str, ...] = ()
    """Schemas in which the where clause finds functions, operators and types, beside pg_catalog; none without one."""
    columns: tuple[Column, ...] = ()
    """Those that may be named, copied or not."""
    types: tuple[UserType, ...] = ()
    """What the types of these columns, and those that may be named, are made of."""


@dataclass(frozen=True)
class TypeMap:
    """Which label or attribute of the target's type stands for which of the source's.

    By pg_enum.oid or pg_attribute.attnum, which stay when a label or an attribute is renamed, on either side.
    """

    schema: str
    name: str
    oid: int
    """Of the type at the source."""
    target_oid: int
    """Of the type in the target; 0 until it is made."""
    parts: tuple[tuple[int, int], ...]
    """At the source, and in the target; 0 until it is made there."""


@dataclass(frozen=True)
class Comments:
    """What COMMENT ON says at the source, for people."""

    table: str | None = None
    columns: tuple[tuple[str, str], ...] = ()
    """Names of columns, and what is said of them."""


NO_COMMENTS = Comments()


@dataclass(frozen=True)
class Selection:
    """What of the table is copied, and how rows are recognised."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """Empty where rows have no key, and only the contents as a whole can be compared."""
    where: str | None
    deletes: Deletes
    cursor: str | None = None
    """The column by which changed rows are found, where it is not done by xmin."""
    types: tuple[UserType, ...] = ()
    """What the columns' types are made of, as far as it is not PostgreSQL's own; in order of creation."""
    printed_types: tuple[UserType, ...] = ()
    """Likewise for the columns that `type_overrides` stores as something else: what is stored is how these print."""
    terms: Terms = Terms()
    xmin_column: str = "source_xmin"
    deleted_at_column: str = "source_deleted_at"
    block_column: str | None = None
    """Where the target keeps a row's block at the source; None where it does not."""
    unique_key: bool = True
    """Whether the source guarantees that the key identifies a row: at the source, or as the target compares keys.
    Where it does not, that is proven by whichever sync brings rows."""

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The key's columns, in the order of the key."""
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.key)

    @property
    def staged_columns(self) -> list[str]:
        """What a row of the extract's files has, in order: the columns, the row's xid64, and perhaps its block."""
        own = [self.xmin_column, self.block_column] if self.block_column else [self.xmin_column]
        return [*(column.name for column in self.columns), *own]
