"""Quantities as people read them."""

from __future__ import annotations


def bytes_text(size: int) -> str:
    """Return a size as people read it: 1.5 MiB."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
