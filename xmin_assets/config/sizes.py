"""Sizes in bytes, as people write them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|[kmgt]i?b|[kmgt])?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def unit_bytes(unit: str) -> int:
    """Return the bytes of a unit in small letters: by thousands for ``kb``, by 1024 for ``kib`` and ``k``."""
    base = 1000 if len(unit) == 2 else 1024
    return int(base ** _POWERS[unit[:1].removesuffix("b")])


def size_of(text: str | int | float) -> int:
    """Return a size in bytes.

    Args:
        text: such as ``256 MiB``, ``4 GiB`` or ``10 GB``; MB is a million bytes, MiB and M are 2^20. A number is bytes.

    Raises:
        ValueError: it is no size, or is not above 0.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise ValueError("is no size; write one such as 256 MiB or 4 GiB")
    size = int(float(match[1]) * unit_bytes((match[2] or "").lower()))
    if size <= 0:
        raise ValueError("must be above 0")
    return size
