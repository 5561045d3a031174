"""The name of one sync: when it began, which table it is about, and what cannot be guessed."""

from __future__ import annotations

import hashlib
import math
import secrets
from datetime import datetime, timezone

from xmin_assets.postgres.identifiers import QualifiedName

_BEGAN = "%Y%m%dT%H%M%S.%f"


def new_sync_id(target: QualifiedName, database: tuple[str, int]) -> str:
    """Make a name for a sync that begins now.

    Args:
        target: the target table.
        database: system identifier of the server and oid of the database that it is in.
    """
    place = "\0".join((*map(str, database), target.schema, target.name))
    table = hashlib.sha256(place.encode()).hexdigest()[:12]
    return f"{datetime.now(timezone.utc):{_BEGAN}}-{table}-{secrets.token_hex(8)}"


def overtaken(sync_id: str, by: str) -> bool:
    """Return whether a sync began before another one of its table that has merged, and so can merge no more."""
    began, _, table = sync_id.rpartition("-")[0].partition("-")
    later, _, same = by.rpartition("-")[0].partition("-")
    return table == same and began < later


def age_of(sync_id: str) -> float:
    """Return seconds since a sync began; infinite for a name that this release does not give."""
    try:
        began = datetime.strptime(sync_id.partition("-")[0], _BEGAN).replace(tzinfo=timezone.utc)
    except ValueError:
        return math.inf
    return (datetime.now(timezone.utc) - began).total_seconds()
