"""Names of tables as people write them, and as SQL needs them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from psycopg2 import sql

from xmin_assets.errors import ConfigError
from xmin_assets.redaction import shown

NAMEDATALEN = 64
"""Bytes of an identifier, its closing NUL included (src/include/pg_config_manual.h)."""

SYSTEM_COLUMNS = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
"""Names that no column of a table can have; one of a view can."""

_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


@dataclass(frozen=True, order=True)
class QualifiedName:
    """A table's schema and name, exactly as the catalog spells them."""

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str, default_schema: str = "public") -> QualifiedName:
        """Read ``schema.table``; parts may be quoted as in SQL, a missing schema is ``default_schema``.

        Unquoted parts are taken as they are written, without spaces around them; they are not folded to lower case.

        Raises:
            ConfigError: the text is not one or two names.
        """
        parts: list[str] = []
        position = 0
        text = text.strip()
        while True:
            match = _PART.match(text, position)
            if match is None:
                break
            quoted, plain = match.groups()
            parts.append(quoted.replace('""', '"') if quoted is not None else plain.strip())
            position = match.end()
            if not text.startswith(".", position):
                break
            position += 1
        if position != len(text) or text.endswith(".") or len(parts) not in (1, 2) or "" in parts:
            raise ConfigError(
                f"{shown(text)} is not a table name. Write schema.table, and quote a part that has a dot or a "
                'quote in it: "my.schema"."my table".'
            )
        for part in parts:
            if "\0" in part or len(part.encode()) >= NAMEDATALEN:
                raise ConfigError(
                    f"{shown(part)} cannot be a name in PostgreSQL: names have at most {NAMEDATALEN - 1} bytes."
                )
        return cls(parts[0] if len(parts) == 2 else default_schema, parts[-1])

    @property
    def sql(self) -> sql.Identifier:
        """The name for a composed statement."""
        return sql.Identifier(self.schema, self.name)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that stand for the name where an identifier must be short and plain."""
        return hashlib.sha256(f"{self.schema}\0{self.name}".encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return ".".join(_display(part) for part in (self.schema, self.name))


def _display(part: str) -> str:
    if '"' in part or "." in part or part != part.strip():
        return '"' + part.replace('"', '""') + '"'
    return part


def collate_clause(collation: str | None) -> sql.Composable:
    """Build the COLLATE clause of a definition, with a space before it; nothing without a collation.

    Args:
        collation: quoted and qualified.
    """
    return sql.SQL(" COLLATE {}").format(sql.SQL(collation)) if collation else sql.SQL("")


def as_text(statement: sql.Composable) -> str:
    """Return a composed statement as people read it: it is never sent, and needs no connection to be written."""
    if isinstance(statement, sql.Composed):
        return "".join(map(as_text, statement.seq))
    if isinstance(statement, sql.Identifier):
        # Always quoted: whether a word needs it is for the server's list of keywords to say.
        return ".".join('"' + name.replace('"', '""') + '"' for name in statement.strings)
    if isinstance(statement, sql.Literal):
        return "'" + str(statement.wrapped).replace("'", "''") + "'"
    assert isinstance(statement, sql.SQL)
    return statement.string
