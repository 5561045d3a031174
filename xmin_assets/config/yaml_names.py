"""Names as a configuration file has them."""

from __future__ import annotations

import json
import re

from xmin_assets.postgres.identifiers import QualifiedName

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def as_yaml(name: QualifiedName) -> str:
    """Write a table's name in YAML: quoted where it may be read as something else."""
    # JSON's strings are YAML's, and quotes in a name need no thought.
    text = str(name)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
