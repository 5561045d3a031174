"""Lengths of time as people write them."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")


def seconds(text: str | float) -> float:
    """Return a duration in seconds: of a number, or of a text such as ``90 s``, ``10 minutes``, ``1 hour``, ``2 d``.

    Raises:
        ValueError: it is no such text, or negative.
    """
    if not isinstance(text, str):
        if text < 0:
            raise ValueError("must not be negative")
        return float(text)
    match = _DURATION.fullmatch(text.strip().lower())
    unit = _UNITS.get(match[2]) or _UNITS.get(match[2].removesuffix("s")) if match else None
    if match is None or unit is None:
        raise ValueError("is no length of time; write one such as 10 minutes, 1 hour or 2 days")
    return float(match[1]) * unit


def duration(seconds: float) -> str:
    """Return a length of time for people, in the largest unit that it has one of."""
    if seconds >= 86400:
        days = f"{seconds / 86400:.3g}"
        return f"{days} day" if days == "1" else f"{days} days"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
