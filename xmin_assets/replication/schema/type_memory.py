"""What the target remembers of its enums and composites: which labels and attributes of the source they stand for.

One row for each type of a source that the target has, written in the transaction that makes or changes the target's
type. So it is true whatever becomes of the sync that did so, and for whichever table is synced next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import psycopg2.extensions as ext

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.types import UserType
from xmin_assets.replication.manifests.serialization import from_json, to_json
from xmin_assets.replication.manifests.table import Identity, TypeMap
from xmin_assets.replication.state.migrations import schema_version

SINCE = 3
"""The version of the schema that has the table."""

_READ = """
SELECT m.target_schema, m.target_type, m.facts::text,
       (m.system_identifier, m.database_oid, m.source_oid) = (%(system)s, %(database)s, w.oid),
       EXISTS (SELECT FROM xmin_assets.state s
                WHERE s.facts -> 'identity' ->> 'system_identifier' = m.system_identifier
                  AND (s.facts -> 'identity' ->> 'database_oid')::int8 = m.database_oid
                  AND s.facts -> 'types' @> pg_catalog.jsonb_build_array(
                          pg_catalog.jsonb_build_object('schema', m.target_schema, 'name', m.target_type,
                                                        'oid', m.source_oid))
                  AND NOT ((m.system_identifier, m.database_oid, m.source_oid) = (%(system)s, %(database)s, w.oid)
                           AND (s.facts -> 'identity' ->> 'timeline')::int8 IS NOT DISTINCT FROM %(timeline)s)
                  AND ((s.target_schema, s.target_table) <> (%(schema)s, %(table)s)
                       OR (s.facts -> 'identity' ->> 'system_identifier',
                           (s.facts -> 'identity' ->> 'database_oid')::int8)
                          <> (%(system)s, %(database)s)
                       OR (s.facts -> 'identity' ->> 'timeline')::int8 IS DISTINCT FROM %(timeline)s)
                  AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = s.target_oid))
  FROM unnest(%(schemas)s::text[], %(names)s::text[], %(oids)s::int8[]) AS w (schema, name, oid)
  JOIN xmin_assets.types m ON m.target_schema = w.schema AND m.target_type = w.name
"""

_LOCK = """
SELECT FROM xmin_assets.types m
  JOIN unnest(%s::text[], %s::text[]) AS w (schema, name) ON m.target_schema = w.schema AND m.target_type = w.name
 ORDER BY m.target_schema, m.target_type, m.system_identifier, m.database_oid, m.source_oid
"""

_WRITE = """
INSERT INTO xmin_assets.types (target_schema, target_type, system_identifier, database_oid, source_oid, facts)
VALUES (%(schema)s, %(name)s, %(system)s, %(database)s, %(source_oid)s, %(facts)s)
ON CONFLICT (target_schema, target_type, system_identifier, database_oid, source_oid) DO UPDATE SET
       facts = excluded.facts
"""


@dataclass(frozen=True)
class TypeMemory:
    """What is remembered of the types that a table's columns need."""

    own: dict[QualifiedName, TypeMap] = field(default_factory=dict)
    """Of the same types of the same source."""
    shared: frozenset[QualifiedName] = frozenset()
    """Types of the target that another table has from another source, or from another type of this one.

    Or the table itself, if another source was the last one that it was synced from: the rows that it has may be worth
    more than those that have come up to take their place, and that is judged by the merge. A table that was last synced
    on another timeline may be a promoted copy's, which is another source.
    """


def read_type_memory(
    cursor: ext.cursor, types: Iterable[UserType], source: Identity, table: QualifiedName
) -> TypeMemory:
    """Return what the target remembers of its types.

    Args:
        cursor: in a transaction at the target.
        types: as the source has them.
        source: where they are.
        table: the target table that they are for.
    """
    wanted = [made for made in types if made.has_parts]
    if not wanted or schema_version(cursor) < SINCE:
        return TypeMemory()
    cursor.execute(
        _READ,
        {
            "system": source.system_identifier,
            "database": source.database_oid,
            "timeline": source.timeline,
            "schema": table.schema,
            "table": table.name,
            "schemas": [made.schema for made in wanted],
            "names": [made.name for made in wanted],
            "oids": [made.oid for made in wanted],
        },
    )
    own, shared = {}, set()
    for schema, name, facts, is_own, in_use in cursor.fetchall():
        if is_own:
            own[QualifiedName(schema, name)] = from_json(TypeMap, facts)
        if in_use:
            shared.add(QualifiedName(schema, name))
    return TypeMemory(own, frozenset(shared))


def remember(cursor: ext.cursor, maps: Sequence[TypeMap], source: Identity) -> None:
    """Note which labels and attributes of the source the target's stand for."""
    for made in maps:
        cursor.execute(
            _WRITE,
            {
                "schema": made.schema,
                "name": made.name,
                "system": source.system_identifier,
                "database": source.database_oid,
                "source_oid": made.oid,
                "facts": to_json(made).decode(),
            },
        )


def lock(cursor: ext.cursor, names: Sequence[QualifiedName], *, to_change: bool) -> None:
    """Keep these types of the target as they are, until the transaction ends.

    Whoever changes a type waits for the merges that rely on it, and sees what they have committed; a merge waits for
    another session that changes one of its types, and sees the result.
    """
    how = "FOR UPDATE OF m" if to_change else "FOR SHARE OF m"
    cursor.execute(_LOCK + how, ([name.schema for name in names], [name.name for name in names]))
