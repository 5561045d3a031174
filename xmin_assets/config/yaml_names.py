"""Names as a configuration file has them."""

from __future__ import annotations

import re

import yaml

from xmin_assets.postgres.identifiers import QualifiedName

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def as_yaml(name: QualifiedName) -> str:
    """Write a table's name in YAML: quoted where it may be read as something else."""
    text = str(name)
    if _PLAIN.fullmatch(text):
        return text
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).strip()
