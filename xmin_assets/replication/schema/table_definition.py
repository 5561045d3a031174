"""What a target table, and the staged table that may become it, is created with."""

from __future__ import annotations

from psycopg2 import sql

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.manifests.operations import column_definition
from xmin_assets.replication.manifests.table import Column, Selection
from xmin_assets.replication.schema.metadata_columns import metadata_columns


def target_columns(selection: Selection) -> tuple[Column, ...]:
    """Return all columns of a target table: those that are copied, and the metadata columns."""
    return (*selection.columns, *(Column(0, name, type_) for name, type_ in metadata_columns(selection)))


def column_definitions(columns: tuple[Column, ...]) -> list[sql.Composable]:
    """Build column definitions for CREATE TABLE: names, types and collations, nothing else of the source."""
    return [column_definition(column.name, column.type, column.collation) for column in columns]


def create_statement(target: QualifiedName, selection: Selection) -> sql.Composed:
    """Build CREATE TABLE of a target as people are shown it: the staged table is made so and renamed."""
    definitions = column_definitions(target_columns(selection))
    if selection.key:
        key = sql.SQL(", ").join(map(sql.Identifier, selection.key))
        definitions.append(sql.SQL("PRIMARY KEY ({})").format(key))
    return sql.SQL("CREATE TABLE {target} ({definitions})").format(
        target=target.sql, definitions=sql.SQL(", ").join(definitions)
    )
