"""Single records of a CSV file in the spool, as people are shown them."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from typing import IO

from xmin_assets.replication.manifests.table import Column


def row_at(file: IO[bytes], line: int) -> list[str]:
    """Return the fields of the CSV record that ends in this line of the file, counted from 1; none if there is none."""
    return _record(file, lambda _, ends: ends >= line)


def row_with(file: IO[bytes], character: bytes) -> list[str]:
    """Return the fields of the first CSV record that has this character; none if there is no such."""
    text = character.decode(errors="replace")
    return _record(file, lambda fields, _: any(text in field for field in fields))


def _record(file: IO[bytes], wanted: Callable[[list[str], int], bool]) -> list[str]:
    limit = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader(raw.decode(errors="replace") for raw in file)
        return next((fields for fields in reader if wanted(fields, reader.line_num)), [])
    finally:
        csv.field_size_limit(limit)


def format_key(key: tuple[Column, ...], values: tuple[object, ...] | list[str]) -> str:
    """Return some of a row's values for people, as `column = value`."""
    return f"({', '.join(column.name for column in key)})=({', '.join(map(str, values))})"
