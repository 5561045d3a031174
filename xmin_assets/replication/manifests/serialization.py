"""The JSON form of manifests."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from xmin_assets.errors import SpoolError

Manifest = TypeVar("Manifest")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def build(*kinds: type) -> None:
    """Prepare to read and write manifests of these kinds, which takes some milliseconds, once in a process."""
    for kind in kinds:
        _adapter(kind)


def to_json(manifest: object) -> bytes:
    """Return the JSON form of any manifest."""
    return _adapter(cast(Any, type(manifest))).dump_json(manifest)


def to_dict(manifest: object) -> dict[str, Any]:
    """Return the JSON form of any manifest, as plain Python values."""
    result: dict[str, Any] = _adapter(cast(Any, type(manifest))).dump_python(manifest, mode="json")
    return result


def from_json(kind: type[Manifest], data: bytes | str) -> Manifest:
    """Read a manifest back.

    Raises:
        SpoolError: the data is not such a manifest.
    """
    try:
        result: Manifest = _adapter(cast(Any, kind)).validate_json(data)
    except ValidationError as error:
        raise SpoolError(
            f"A manifest in the spool is not a {kind.__name__} of this version ({error.error_count()} problems). "
            "Run the sync again from its first station."
        ) from error
    return result
