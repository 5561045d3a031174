"""Which of PostgreSQL's own types hold less than others, and which hold what two of them do. Pure."""

from __future__ import annotations

import math
import re

_PARTS = re.compile(r"(?P<name>[^(]*?)(?:\((?P<modifiers>[\d,-]+)\))?(?P<array>(?:\[\])*)")

_INTEGERS = ("smallint", "integer", "bigint", "numeric")
_FLOATS = ("real", "double precision")
_TEXTS = ("character varying", "text")
_LETTERS = (*_TEXTS, "character")
_BITS = ("bit", "bit varying")
_NUMBERS = (*_INTEGERS, *_FLOATS)
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
"""Digits of the largest value."""

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


def interim_type(type_: str, was: str) -> str | None:
    """Find a type that holds the values of two others, where one may not hold all of the other's.

    A column can then have it while rows of the one are replaced by rows of the other.

    Args:
        type_: the type that the column gets, as format_type() prints it.
        was: the type that it has, likewise.

    Returns:
        The type; None where every value of `was` becomes one of `type_`, if rounded, or PostgreSQL's own types do not
        tell.
    """
    new, old = _PARTS.fullmatch(type_), _PARTS.fullmatch(was)
    if not new or not old or type_ == was or new["array"] != old["array"]:
        return None
    size, room = _numbers(new["modifiers"]), _numbers(old["modifiers"])
    for names, interim in ((_NUMBERS, "numeric"), (_LETTERS, "text"), (_BITS, "bit varying")):
        if new["name"] in names and old["name"] in names:
            fits = _largest(old["name"], room) <= _holds(new["name"], size)
            exact = new["name"] != "bit" or (new["name"], size) == (old["name"], room)
            return None if fits and exact else interim + new["array"]
    return None


def _largest(name: str, modifiers: tuple[int, ...]) -> float:
    """Return how many digits before the point, or letters or bits, the largest value of a type has."""
    if name in _DIGITS:
        return _DIGITS[name]
    if name == "numeric" and modifiers:
        digits, scale = (*modifiers, 0)[:2]
        return digits - scale
    return modifiers[0] if modifiers and name not in _FLOATS else math.inf


def _holds(name: str, modifiers: tuple[int, ...]) -> float:
    """Return how many digits before the point, or letters or bits, any value may have that is to be one of a type."""
    if name in _DIGITS:
        return _DIGITS[name] - 1  # not all numbers of that many digits
    if name == "real":
        return 38
    return _largest(name, modifiers)


def _numbers(modifiers: str | None) -> tuple[int, ...]:
    return tuple(map(int, modifiers.split(","))) if modifiers else ()


def _fits(size: tuple[int, ...], room: tuple[int, ...]) -> bool:
    """Return whether a numeric of this precision and scale is one of that precision and scale."""
    (digits, scale), (most_digits, most_scale) = ((*numbers, 0)[:2] for numbers in (size, room))
    return scale <= most_scale and digits - scale <= most_digits - most_scale
