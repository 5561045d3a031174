"""Which of PostgreSQL's own types hold some of the values that another one holds, and no others. Pure."""

from __future__ import annotations

import re

_PARTS = re.compile(r"(?P<name>[^(]*?)(?:\((?P<modifiers>[\d,-]+)\))?(?P<array>(?:\[\])*)")

_INTEGERS = ("smallint", "integer", "bigint", "numeric")
_FLOATS = ("real", "double precision")
_TEXTS = ("character varying", "text")
_LENGTHS = ("character varying", "character", "bit varying")
"""Types whose modifier is the greatest length."""


def holds_less(type_: str, than: str) -> bool:
    """Return whether every value of a type is one of the other, exactly, and some of the other are not of it.

    Args:
        type_: as format_type() prints it.
        than: the other one, likewise.
    """
    new, old = _PARTS.fullmatch(type_), _PARTS.fullmatch(than)
    if not new or not old or type_ == than or new["array"] != old["array"]:
        return False
    name, other = new["name"], old["name"]
    size, room = _numbers(new["modifiers"]), _numbers(old["modifiers"])
    if name in _TEXTS and other in _TEXTS:
        return bool(size) and (not room or size < room)
    if name != other:
        for order in (_INTEGERS, _FLOATS):
            if name in order and other in order and not size and not room:
                return order.index(name) < order.index(other)
        return False
    if name == "numeric" and size:
        return not room or _fits(size, room)
    return name in _LENGTHS and bool(size) and (not room or size < room)


def _numbers(modifiers: str | None) -> tuple[int, ...]:
    return tuple(map(int, modifiers.split(","))) if modifiers else ()


def _fits(size: tuple[int, ...], room: tuple[int, ...]) -> bool:
    """Return whether a numeric of this precision and scale is one of that precision and scale."""
    (digits, scale), (most_digits, most_scale) = ((*numbers, 0)[:2] for numbers in (size, room))
    return scale <= most_scale and digits - scale <= most_digits - most_scale
