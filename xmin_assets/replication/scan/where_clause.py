"""What a ``where`` means: the columns and types that it may name, and where its functions and operators are found.

An answer of the clause for a row that nobody has written to can change with any of these, so they are part of what is
compared with the last sync. The same holds for the expression of a virtual column.

Transactions of ours have an empty search_path, but a person tries a clause in psql. So statements that contain one run
with the table's schema and those of the installed extensions on the path, and with nothing else: not ``public`` as
such, nor the role's own schema. PostgreSQL's own functions and operators come first (pg_catalog is searched before the
path, https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-SEARCH-PATH), but of several that fit, the
one whose types are nearest is taken from wherever it is
(https://www.postgresql.org/docs/current/typeconv-func.html). So our own part of such a statement names what has no
exact match in pg_catalog by its schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import errorcodes, sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import ConfigError, RelationGone, ServerError, UnsupportedTable
from xmin_assets.postgres.catalog import Attribute, Storage, virtual_columns_differ
from xmin_assets.postgres.error_translation import one_line, translate
from xmin_assets.postgres.expression import Words
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.types import FIRST_OWN_OID, UserType, types_in, types_of
from xmin_assets.replication.manifests.table import Column, Selection, Terms
from xmin_assets.replication.scan.conditions import where_condition

_NAME_OF_AN_OBJECT = {
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regtype",
}
"""Types whose output function leaves out the schema of what is found by the search_path."""

# A schema that the role may not use is passed over by the server, too.
_SCHEMAS = """
SELECT DISTINCT n.nspname::text COLLATE pg_catalog."C"
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 WHERE n.nspname <> 'pg_catalog' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
 ORDER BY 1
"""


def search_path(cursor: ext.cursor, table: QualifiedName) -> tuple[str, ...]:
    """Return the schemas in which a clause finds functions, operators and types beside pg_catalog, in order."""
    cursor.execute(_SCHEMAS)
    found = [table.schema, *(schema for (schema,) in cursor.fetchall() if schema != table.schema)]
    # A schema that is called $user would stand for the role's own. Temporary objects would else come first of all.
    return (*(schema for schema in found if schema not in ("pg_catalog", "$user")), "pg_temp")


def terms_of(
    cursor: ext.cursor, table: TableConfig, attributes: Sequence[Attribute], copied: Sequence[Attribute]
) -> Terms:
    """Return what gives the table's ``where``, and the virtual columns that are copied, their meaning.

    Args:
        cursor: in a transaction at the source, with an empty search_path.
        table: the table's configuration.
        attributes: all columns of the source table.
        copied: those that are copied.

    Raises:
        UnsupportedTable: a column cannot be copied together with a ``where``.
    """
    texts = [*([table.where] if table.where else []), *(a.virtual for a in copied if a.virtual)]
    if not texts:
        return Terms()
    every = Words(table.where or "").may_have(table.source_name.name)  # the whole row, perhaps
    first = Words("\n".join(texts))
    # A virtual column means what the columns in its expression do, and these are no virtual ones.
    behind = [a.virtual for a in attributes if a.virtual and (every or first.may_have(a.name))]
    words = Words("\n".join([*texts, *behind]))
    named = [a for a in attributes if every or words.may_have(a.name)]
    columns = tuple(Column(a.attnum, a.name, a.type, a.virtual, a.collation) for a in named)
    if not table.where:
        return Terms(columns=columns)  # a virtual column can use none but PostgreSQL's own types
    _require_independent(table, copied, _own_types(cursor, [a.type_oid for a in copied]))
    path = search_path(cursor, table.source_name)
    oids = [*(a.type_oid for a in named), *types_in(cursor, words.text, path, words.may_have)]
    return Terms(path, columns, _own_types(cursor, oids))


def _own_types(cursor: ext.cursor, oids: list[int]) -> tuple[UserType, ...]:
    own = [oid for oid in oids if oid >= FIRST_OWN_OID]
    return types_of(cursor, own) if own else ()


def _require_independent(table: TableConfig, copied: Sequence[Attribute], types: Sequence[UserType]) -> None:
    """Refuse columns whose text depends on the search_path, which is not the same in the target."""
    bound = set(_NAME_OF_AN_OBJECT)
    for made in types:  # each after those that it is made of
        if any(_element(part) in bound for part in (made.base, *(part.type for part in made.fields)) if part):
            bound.add(made.text)
    for attribute in copied:
        if _element(attribute.type) in bound:
            raise UnsupportedTable(
                f"{table.label}: the column {attribute.name} is {attribute.type}, which prints the names of objects. "
                "They would be printed otherwise where a where clause is evaluated. Leave it out with exclude_columns: "
                f"[{attribute.name}], or leave out where."
            )


def _element(text: str) -> str:
    return text.removesuffix("[]")


def mark_unlike_leaves(
    cursor: ext.cursor, table: TableConfig, oid: int, selection: Selection, storage: tuple[Storage, ...]
) -> tuple[Storage, ...]:
    """Mark the relations that hold a table's rows if their rows are others where they are read one by one.

    A row that is read from its partition is one of the partition: the table's own name means nothing there, and a
    virtual column is computed as the table that the query names has it
    (https://www.postgresql.org/docs/current/ddl-generated-columns.html).
    """
    if all(leaf.oid == oid for leaf in storage):
        return storage
    named = table.where is not None and Words(table.where).may_have(table.source_name.name)
    virtual = [column.name for column in (*selection.columns, *selection.terms.columns) if column.virtual]
    if named or (virtual and virtual_columns_differ(cursor, oid, [leaf.oid for leaf in storage], virtual)):
        return tuple(replace(leaf, alike=False) for leaf in storage)
    return storage


def use_search_path(cursor: ext.cursor, path: Sequence[str]) -> None:
    """Let the transaction find what a clause may name; for an empty path nothing is done."""
    if path:
        cursor.execute(_set_path(path))


@contextmanager
def without_search_path(cursor: ext.cursor, path: Sequence[str]) -> Iterator[None]:
    """Use an empty search_path for a while, after `use_search_path`."""
    if path:
        cursor.execute(_set_path(()))
    yield
    use_search_path(cursor, path)


def _set_path(path: Sequence[str]) -> sql.Composable:
    names = sql.SQL(", ").join(map(sql.Identifier, path)) if path else sql.Literal("")
    return sql.SQL("SET LOCAL search_path = {}").format(names)


def try_out(cursor: ext.cursor, table: TableConfig, terms: Terms) -> None:
    """Let the server say whether it understands the clause. No row is read.

    Args:
        cursor: in a transaction at the source.
        table: the table's configuration.
        terms: see `terms_of`.

    Raises:
        ConfigError: it does not, or the role may not use what the clause names.
    """
    condition = where_condition(table.where)
    if condition is None:
        return
    nothing = sql.SQL("SELECT FROM {} LIMIT 0").format(table.source_name.sql)
    chosen = sql.SQL("SELECT FROM {} WHERE {} LIMIT 0").format(table.source_name.sql, condition)
    # By itself: of several statements that are sent together, none is executed if the server cannot read one of them.
    cursor.execute("SAVEPOINT trial")
    try:
        cursor.execute(sql.SQL("; ").join([_set_path(terms.path), chosen, _set_path(())]))
    except psycopg2.Error as error:
        if not isinstance(translate(error, table.label), (ServerError, RelationGone)):
            raise
        if error.pgcode in (None, errorcodes.QUERY_CANCELED):
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT trial")
        try:
            cursor.execute(nothing)
        except psycopg2.Error:
            raise error from None  # it is the table, and not the clause: its error is no cause
        raise ConfigError(_refusal(table, terms, error)) from error
    cursor.execute("RELEASE SAVEPOINT trial")


def _refusal(table: TableConfig, terms: Terms, error: psycopg2.Error) -> str:
    hint = f" {' '.join(error.diag.message_hint.split())}" if error.diag.message_hint else ""
    schemas = ", ".join(schema for schema in terms.path if schema != "pg_temp")
    return (
        f"{table.label}: the source refuses the where clause: {one_line(error)}{hint} Correct where. It finds "
        f"functions, operators and types in {schemas}, the table's schema and those of the extensions; others need "
        "their schema before their name."
    )
