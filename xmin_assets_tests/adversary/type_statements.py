"""What a session does to the types: labels and attributes that get other names, go, come, and change places."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from xmin_assets_tests.adversary.oracle import quoted
from xmin_assets_tests.adversary.statements import Made, Scene


def rename_label(scene: Scene) -> Made:
    return (
        [_to(scene, kind, scene.rnd.choice(labels), f"l{scene.rnd.randrange(9)}")]
        if (kind := _enum(scene)) and (labels := _labels(scene, kind))
        else []
    )


def chain_labels(scene: Scene) -> Made:
    """Each label gets the name of the next one, and the last a new one."""
    kind = _enum(scene)
    names = [*_labels(scene, kind), f"c{scene.rnd.randrange(99)}"]
    return ["; ".join(_to(scene, kind, name, to) for name, to in reversed(list(pairwise(names))))]


def swap_labels(scene: Scene) -> Made:
    kind = _enum(scene)
    labels = _labels(scene, kind)
    if len(labels) < 2:
        return []
    one, two = scene.rnd.sample(labels, 2)
    return [f"{_to(scene, kind, one, 'between')}; {_to(scene, kind, two, one)}; {_to(scene, kind, 'between', two)}"]


def reuse_label(scene: Scene) -> Made:
    """Rename a label, and make another of its name."""
    kind = _enum(scene)
    label = scene.rnd.choice(_labels(scene, kind))
    return [f"{_to(scene, kind, label, f'u{scene.rnd.randrange(99)}')}; ALTER TYPE {kind} ADD VALUE '{label}'"]


def add_label(scene: Scene) -> Made:
    kind = _enum(scene)
    where = scene.rnd.choice(["", f" BEFORE '{scene.rnd.choice(_labels(scene, kind))}'"])
    return [f"ALTER TYPE {kind} ADD VALUE IF NOT EXISTS 'a{scene.rnd.randrange(9)}'{where}"]


def add_attribute(scene: Scene) -> Made:
    return [f"ALTER TYPE pair ADD ATTRIBUTE {scene.rnd.choice(['d', 'e'])} {scene.rnd.choice(['int', 'text'])} CASCADE"]


def drop_attribute(scene: Scene) -> Made:
    fields = _attributes(scene)
    return [f"ALTER TYPE pair DROP ATTRIBUTE {quoted(scene.rnd.choice(fields)[0])} CASCADE"] if len(fields) > 1 else []


def readd_attribute(scene: Scene) -> Made:
    if not (fields := _attributes(scene)):
        return []
    (name, kind), alter = scene.rnd.choice(fields), "ALTER TYPE pair"
    return [f"{alter} DROP ATTRIBUTE {quoted(name)} CASCADE; {alter} ADD ATTRIBUTE {quoted(name)} {kind} CASCADE"]


def rename_attribute(scene: Scene) -> Made:
    if not (fields := _attributes(scene)):
        return []
    return [
        f"ALTER TYPE pair RENAME ATTRIBUTE {quoted(scene.rnd.choice(fields)[0])} TO g{scene.rnd.randrange(4)} CASCADE"
    ]


def swap_attributes(scene: Scene) -> Made:
    fields = _attributes(scene)
    if len(fields) < 2:
        return []
    one, two = (quoted(name) for name, _ in scene.rnd.sample(fields, 2))
    alter = "ALTER TYPE pair RENAME ATTRIBUTE"
    return [f"{alter} {one} TO between CASCADE; {alter} {two} TO {one} CASCADE; {alter} between TO {two} CASCADE"]


def alter_domain(scene: Scene) -> Made:
    if scene.rnd.random() < 0.5:
        return ["ALTER DOMAIN tag DROP CONSTRAINT tag_check"]
    return [f"ALTER DOMAIN tag ADD CONSTRAINT tag_check CHECK (length(VALUE) < {scene.rnd.randrange(20, 60)})"]


def remake_enum(scene: Scene) -> Made:
    """Let a column have an enum that was made anew under the name of the one before, with other labels."""
    labels = _labels(scene, "size")
    scene.rnd.shuffle(labels)
    columns = scene.fetch(
        "SELECT attrelid::regclass::text, quote_ident(attname) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
        " WHERE atttypid = 'size'::regtype AND NOT attisdropped AND NOT relispartition AND relkind IN ('r', 'p')"
        " AND attinhcount = 0"
    )
    listed = ", ".join("'" + label.replace("'", "''") + "'" for label in labels)
    alter = "; ".join(
        f"ALTER TABLE {table} ALTER COLUMN {column} TYPE size USING {column}::text::size" for table, column in columns
    )
    return [
        f"ALTER TYPE size RENAME TO size_before; CREATE TYPE size AS ENUM ({listed}); {alter}; DROP TYPE size_before"
    ]


TYPE_STATEMENTS: dict[str, Callable[[Scene], Made]] = {
    made.__name__: made
    for made in (
        rename_label, chain_labels, swap_labels, reuse_label, add_label, add_attribute, drop_attribute, readd_attribute,
        rename_attribute, swap_attributes, alter_domain, remake_enum,
    )
}  # fmt: skip
"""What is done to types. How a value prints is not a matter of snapshots, so none of it happens while rows are read."""


def _enum(scene: Scene) -> str:
    return scene.rnd.choice(["mood", "mood", "size"])


def _labels(scene: Scene, kind: str) -> list[str]:
    found = scene.fetch(
        f"SELECT enumlabel::text FROM pg_enum WHERE enumtypid = '{kind}'::regtype ORDER BY enumsortorder"
    )
    return [label for (label,) in found]


def _attributes(scene: Scene) -> list[tuple[str, str]]:
    found = scene.fetch(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
        " AND attrelid = (SELECT typrelid FROM pg_type WHERE oid = 'pair'::regtype) ORDER BY attnum"
    )
    return [(name, kind) for name, kind in found]


def _to(scene: Scene, kind: str, label: str, to: str) -> str:
    one, two = (text.replace("'", "''") for text in (label, to))
    return f"ALTER TYPE {kind} RENAME VALUE '{one}' TO '{two}'"
