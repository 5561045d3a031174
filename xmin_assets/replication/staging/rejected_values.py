"""What to say of a value that the target refuses, with the row that it is in."""

from __future__ import annotations

import re
from collections.abc import Sequence

import psycopg2
from psycopg2 import errorcodes

from xmin_assets.errors import DataInvalid
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.replication.manifests.extract import Part
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.spool.csv_records import format_key, row_at, row_with
from xmin_assets.replication.spool.spool import Spool

_PLACE = re.compile(r"^COPY .*?, line (?P<line>\d+)(?:, column (?P<column>.+?)(?:: |$))?", re.MULTILINE)

_CHARACTER = re.compile(r"byte sequence ((?:0x[0-9a-f]{2} ?)+)")

_ABOUT_VALUES = (
    errorcodes.CLASS_DATA_EXCEPTION,
    errorcodes.CLASS_INTEGRITY_CONSTRAINT_VIOLATION,
    errorcodes.CLASS_FEATURE_NOT_SUPPORTED,
    errorcodes.CLASS_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,  # a regclass names a table that is not there
)


def rejection(
    error: psycopg2.Error, snapshot: SourceSnapshot, columns: Sequence[str], part: Part, spool: Spool
) -> DataInvalid | None:
    """Return what to say of a value that the target refuses; None if the error is not about a value.

    Args:
        error: of a COPY.
        snapshot: of the sync.
        columns: of the file.
        part: the file.
        spool: where it is.
    """
    # COPY says: COPY staged_1f2e, line 3, column mood: "sad"
    place = _PLACE.search(error.diag.context or "")
    if place is None or (error.pgcode or "")[:2] not in _ABOUT_VALUES:
        return None
    column = place["column"]
    with spool.read(part.uri) as file:
        # A character is refused when a block of the file is converted, lines ahead or behind.
        character = _CHARACTER.search(error.diag.message_primary or "")
        fields = row_with(file, bytes.fromhex(character[1].replace("0x", ""))) if character else []
        fields = fields or row_at(file, int(place["line"]))
    key, row = snapshot.target_selection.key_columns, dict(zip(columns, fields, strict=False))
    values = [row[column.name] for column in key if column.name in row]
    which = f" It is in the row with {format_key(key, values)}." if values else ""
    is_check = error.pgcode in (errorcodes.CHECK_VIOLATION, errorcodes.NOT_NULL_VIOLATION)
    remedy = "If the source has no such constraint, drop it there" if is_check else "Create there what it needs"
    ways = f"type_overrides: {{{column}: text}}" if column else "type_overrides"
    return DataInvalid(
        f"{snapshot.table}: the target refuses a value{f' of column {column}' if column else ''}: "
        f"{one_line(error)}{which} {remedy}, store the column as text with {ways}, or leave it out with "
        "exclude_columns."
    )
