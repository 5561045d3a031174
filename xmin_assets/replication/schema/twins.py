"""Empty tables that are like the target, with its partitions, its heirs, its foreign keys and what has its rows in it.

What is planned is tried out on them, see `rehearsal`. What the role may not imitate is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.dependents import FAMILY, columns_of_rows
from xmin_assets.postgres.foreign_keys import foreign_keys_of, imitate
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_as

TWIN = QualifiedName("pg_temp", "xmin_assets_twin")
"""The one that stands for the target."""

# A partition that has nothing of its own does what its parent does. The rest is bounded by what a transaction may lock.
_MEMBERS = f"""
WITH RECURSIVE {FAMILY}, chosen AS (
    SELECT c.oid
      FROM tree t
      JOIN pg_catalog.pg_class c ON c.oid = t.oid
     WHERE c.oid = %(table)s OR c.relkind = 'p'
        OR c.relkind = 'r' AND (
               NOT c.relispartition
               OR EXISTS (SELECT FROM pg_catalog.pg_index i
                           WHERE i.indrelid = c.oid
                             AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid))
               OR EXISTS (SELECT FROM pg_catalog.pg_constraint o
                           WHERE c.oid IN (o.conrelid, o.confrelid) AND o.contype IN ('c', 'f')
                             AND o.conparentid = 0 AND (o.coninhcount = 0 OR o.contype = 'f'))
               OR EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid)
               OR EXISTS (SELECT FROM pg_catalog.pg_attrdef d
                            JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                           WHERE d.adrelid = c.oid
                             AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h
                                               JOIN pg_catalog.pg_attrdef e ON e.adrelid = h.inhparent
                                               JOIN pg_catalog.pg_attribute b
                                                 ON b.attrelid = e.adrelid AND b.attnum = e.adnum
                                              WHERE h.inhrelid = c.oid AND b.attname = a.attname
                                                AND pg_catalog.pg_get_expr(e.adbin, e.adrelid)
                                                    = pg_catalog.pg_get_expr(d.adbin, d.adrelid))))
     ORDER BY c.oid <> %(table)s, c.oid
     LIMIT 50
), edges AS (
    SELECT i.inhrelid, i.inhparent
      FROM chosen c JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
     WHERE c.oid <> %(table)s
)
SELECT c.oid::int8 AS oid, c.oid::regclass::text AS name,
       pg_catalog.pg_get_partkeydef(c.oid) AS partitioned_by,
       pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bounds,
       ARRAY(SELECT e.inhparent::int8 FROM edges e WHERE e.inhrelid = c.oid) AS parents,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attidentity <> '' AND NOT a.attisdropped) AS identities
  FROM pg_catalog.pg_class c
 WHERE c.oid IN (SELECT oid FROM chosen UNION SELECT inhparent FROM edges)
 ORDER BY c.oid <> %(table)s, c.oid
"""


@dataclass(frozen=True)
class _Member:
    """A table of the target's family: itself, a partition or heir of it, or another parent of such a one."""

    oid: int
    name: str
    """As SQL."""
    partitioned_by: str | None
    bounds: str | None
    """Of a partition."""
    parents: Sequence[int]
    identities: Sequence[str]
    """Columns that are GENERATED AS IDENTITY."""


@dataclass
class Twins:
    """The tables that are there, and what each of their names stands for."""

    cursor: ext.cursor
    meanings: dict[str, str] = field(default_factory=dict)
    """What messages of the server have, and what people know it as."""
    _names: dict[int, str] = field(default_factory=dict)
    _foreign_keys: int = 0

    @classmethod
    def make(cls, cursor: ext.cursor, table: int) -> Twins:
        """Make them.

        Args:
            cursor: in a transaction that is rolled back afterwards.
            table: the target's oid.
        """
        twins = cls(cursor)
        cursor.execute(_MEMBERS, {"table": table})
        members = {member.oid: member for member in fetch_as(cursor, _Member)}
        for member in members.values():
            twins._make(member, members)
        if columns := columns_of_rows(cursor, table):
            cursor.execute(sql.SQL("CREATE TEMPORARY TABLE xmin_assets_elsewhere (rows {})").format(TWIN.sql))
            twins.meanings["xmin_assets_elsewhere.rows"] = ", ".join(columns)
        return twins

    def with_foreign_keys(self) -> None:
        """Give each table the foreign keys of the one that it stands for."""
        for oid, name in [*self._names.items()]:
            for key in foreign_keys_of(self.cursor, oid):
                self._foreign_keys += 1
                called = f"xmin_assets_foreign_key_{self._foreign_keys}"
                if imitate(self.cursor, key, sql.Identifier("pg_temp", name), called):
                    self.meanings[f'"{called}"'] = key.name

    def meaning(self, text: str) -> str:
        """Return a message of the server with the names that people know."""
        for name in sorted(self.meanings, key=len, reverse=True):
            text = text.replace(name, self.meanings[name])
        return text

    def _make(self, member: _Member, members: dict[int, _Member]) -> None:
        if member.oid in self._names:
            return
        for parent in member.parents:
            self._make(members[parent], members)
        name = f"{TWIN.name}_{len(self._names)}" if self._names else TWIN.name
        self.cursor.execute("SAVEPOINT twin")
        try:
            self._create(member, name)
        except psycopg2.Error:
            if not self._names:
                raise
            self.cursor.execute("ROLLBACK TO SAVEPOINT twin")
            return
        self._names[member.oid] = name
        self.meanings[name] = member.name

    def _create(self, member: _Member, name: str) -> None:
        twin = sql.Identifier("pg_temp", name)
        self.cursor.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING ALL EXCLUDING IDENTITY){}").format(
                sql.Identifier(name),
                sql.SQL(member.name),
                sql.SQL(f" PARTITION BY {member.partitioned_by}" if member.partitioned_by else ""),
            )
        )
        # LIKE makes a sequence of bigint for each, whatever the column is. A partition has its parent's.
        for column in member.identities if not member.bounds else ():
            self.cursor.execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} ADD GENERATED ALWAYS AS IDENTITY").format(
                    twin, sql.Identifier(column)
                )
            )
        for parent in member.parents:
            if parent not in self._names:
                continue
            above = sql.Identifier("pg_temp", self._names[parent])
            if member.bounds:
                statement = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} {}").format(above, twin, sql.SQL(member.bounds))
            else:
                statement = sql.SQL("ALTER TABLE {} INHERIT {}").format(twin, above)
            self.cursor.execute(statement)
