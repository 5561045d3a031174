"""Amounts of data in a second, as people write them."""

from __future__ import annotations

import re

from xmin_assets.config.sizes import unit_bytes
from xmin_assets.redaction import shown

LEAST = 8192
"""Bytes in a second that a limit may be at least: a block of a table."""

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?b|b)\s*/\s*s")


def bytes_per_second(text: str) -> float:
    """Return a rate in bytes per second, of a text such as ``50 MiB/s``, ``1 GiB/s`` or ``800 KiB/s``.

    KB, MB and GB are taken by thousands, KiB, MiB and GiB by 1024.

    Raises:
        ValueError: it is no such text, or less than a block of 8 KiB in a second.
    """
    match = _RATE.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"is no rate: {shown(text)}; write one such as 50 MiB/s, 1 GiB/s or 800 KiB/s")
    rate = float(match[1]) * unit_bytes(match[2])
    if rate < LEAST:
        raise ValueError(
            f"is too little: {shown(text)}; the least is 8 KiB/s, which is one block of a table in a second"
        )
    return rate
