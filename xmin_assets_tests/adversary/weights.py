"""How often each thing is done: the one place to turn a history towards something."""

from __future__ import annotations

from collections.abc import Iterable

STEPS = {
    "statement": 40,
    "transaction": 22,
    "type": 5,
    "server": 8,
    "config": 4,
    "sync": 24,
    "verify": 3,
    "wait": 1,
    "story": 8,
}
"""Kinds of steps."""

STATEMENTS = {
    "insert": 18, "update": 26, "touch": 3, "delete": 14, "lock": 3, "change_key": 5, "swap_keys": 3, "move": 6,
    "truncate": 2, "refill": 2, "subtransactions": 2, "vacuum": 5, "cluster": 1, "set_logged": 1, "remake": 1,
    "add_column": 3, "drop_column": 2, "readd_column": 4, "rename_column": 2, "swap_columns": 4, "retype_column": 1,
    "alter_expression": 2, "partitions": 5, "widen_key": 1, "key_index": 1, "copy_freeze": 2, "detach_concurrently": 1,
}  # fmt: skip
"""What is done to a table."""

DURING_EXTRACT = (
    "insert", "update", "delete", "lock", "change_key", "swap_keys", "move", "touch", "vacuum", "truncate",
    "partitions", "readd_column", "subtransactions",
)  # fmt: skip
"""What a session does while rows are read."""

TYPES = {
    "rename_label": 3, "chain_labels": 2, "swap_labels": 3, "reuse_label": 3, "add_label": 2, "add_attribute": 2,
    "drop_attribute": 1, "readd_attribute": 3, "rename_attribute": 1, "swap_attributes": 3, "alter_domain": 1,
    "remake_enum": 1,
}  # fmt: skip
"""What is done to types."""

TRANSACTIONS = {
    "begin": 12, "begin_asynchronous": 6, "commit": 14, "rollback": 3, "savepoint": 5, "rollback_to": 3, "release": 2,
    "prepare": 3, "commit_prepared": 3, "rollback_prepared": 1, "asynchronous": 4, "synchronous": 3,
}  # fmt: skip
"""How sessions' transactions begin and end."""

SERVER = {
    "checkpoint": 5, "kill": 3, "crash": 2, "restart": 1, "slow": 3, "quick": 3, "stop_walwriter": 3,
    "continue_walwriter": 3, "reset_statistics": 2, "switch_wal": 3, "writer_delay": 1, "burn": 1, "restore": 1,
    "summarize": 1, "forget_summaries": 1,
}  # fmt: skip
"""What is done to the whole source."""

CONFIG = {
    "deletes": 4, "delete_detection": 4, "where": 6, "track_blocks": 4, "columns": 4, "mode": 1, "resync": 1,
    "type_overrides": 2, "dropped_columns": 1, "wal_summaries": 1,
}  # fmt: skip
"""What of a target's configuration is changed."""

STORIES = {
    "slow_disk": 8, "lost_commits": 6, "late_deletes": 4, "emptied_by_crash": 1, "types_apart": 3, "hidden_where": 4,
    "twin_keys": 3, "switch_back": 2, "long_transaction": 6,
}  # fmt: skip
"""Several steps that belong together, for what chance alone would hardly ever bring about."""

KINDS = {"plain": 4, "wide": 3, "partitioned": 3, "loose": 2, "unlogged": 1, "inherited": 1, "diamond": 1}
"""Kinds of tables."""

ROLES = {"postgres": 3, "reader": 1}
"""As whom the engine reads the source: the superuser, or one that may read all tables and no more."""

ROWS = (12, 12, 30, 30, 60, 60, 60, 1200)
"""Of a table. Those of 1000 and more have the engine ask before it deletes many."""

CITEXT = {"citext": 1, "plain": 6}
"""Tables with a column of an extension's type, where the databases have the extension."""
INSIDE_SHARE = 0.3
"""Syncs that are not alone: steps are played at some of their points."""
VERIFY_SHARE = 0.5
BY_BLOCKS = 0.65
"""Copies that are to read changed blocks only, where they can."""
NAMES_KEY = 0.2
"""Copies whose configuration names the key."""
DATABASES = (1, 1, 1, 1, 2)
TABLES = (1, 1, 2, 2, 3)
STEPS_OF_A_HISTORY = (20, 70)
INTERVAL = 0.3
"""Seconds of delete_detection where it is an interval."""


def leave_out(names: Iterable[str]) -> None:
    """Let histories do without what has these names, in this process.

    Raises:
        ValueError: nothing has such a name.
    """
    choices = (STEPS, STATEMENTS, TYPES, TRANSACTIONS, SERVER, CONFIG, STORIES, KINDS, CITEXT, ROLES)
    for name in names:
        if not any(name in choice for choice in choices):
            raise ValueError(f"nothing is called {name}")
        for choice in choices:
            if name in choice and (choice is not CITEXT or name == "citext"):
                choice[name] = 0
