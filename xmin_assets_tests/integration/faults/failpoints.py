"""Places in a sync at which a test can make something happen, once."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_R = "xmin_assets.replication."

# name: module, attribute in it, and whether it happens before the call or after it.
FAILPOINTS: dict[str, tuple[str, str, str]] = {
    "before the snapshot": (_R + "sync", "snapshot", "before"),
    "after the snapshot": (_R + "sync", "snapshot", "after"),
    "after the rows were counted": (_R + "extraction.table_reader", "TableReader._count", "after"),
    "after the rows were copied": (_R + "extraction.table_reader", "TableReader._copy_rows", "after"),
    "after the keys were copied": (_R + "extraction.table_reader", "TableReader.copy_keys", "after"),
    "after the extract": (_R + "sync", "read_source_table", "after"),
    "after the staged table was made": (_R + "staging.loader", "StagedTableLoader.create", "after"),
    "after a file was loaded": (_R + "staging.loader", "StagedTableLoader._load_part", "after"),
    "before the staged key is built": (_R + "staging.loader", "StagedTableLoader._finish", "before"),
    "after the stage": (_R + "sync", "stage", "after"),
    "after the staged table became the target": (_R + "merging.merge", "promote", "after"),
    "after the rows were deleted": (_R + "merging.merge", "delete_missing", "after"),
    "after the rows were written": (_R + "merging.merge", "upsert_rows", "after"),
    "after the state was written": (_R + "merging.merge", "write_state", "after"),
    "before the commit": (_R + "merging.merge", "drop_staged", "after"),
    "after the commit": (_R + "sync", "merge", "after"),
    "before the files are removed": (_R + "spool.spool", "Spool.remove_merged", "before"),
}
_BY_CHUNKS: dict[str, tuple[str, str, str]] = {
    "after a load was begun": (_R + "chunked_load", "_ChunkedLoad._begin", "after"),
    "after a file of a load": (_R + "staging.load_table", "note_loaded", "after"),
    "after the first chunk": (_R + "chunked_load", "_ChunkedLoad._read_chunk", "after"),
    "after the key of a load": (_R + "chunked_load", "add_load_key", "after"),
    "after the state of a load": (_R + "chunked_load", "_ChunkedLoad._note_state", "after"),
    "after a load was closed": (_R + "merging.merge", "mark_as_staged", "after"),
    "after a load became the target": (_R + "merging.merge", "promote", "after"),
}
ONLY_FIRST = {"after the staged table became the target"}
"""Places that only the first sync of a table comes to."""
ONLY_LATER = {"after the keys were copied", "after the rows were deleted", "after the rows were written"}
"""Places that no first sync comes to."""

OF_A_FIRST_SYNC = [name for name in FAILPOINTS if name not in ONLY_LATER]
OF_A_LATER_SYNC = [name for name in FAILPOINTS if name not in ONLY_FIRST]
OF_A_LOAD = [*_BY_CHUNKS]
FAILPOINTS |= _BY_CHUNKS


@contextmanager
def at_failpoint(failpoint: str, action: Callable[[], object]) -> Iterator[threading.Event]:
    """Let the action happen when a sync in this process first comes to the place; the event tells that it did."""
    module, path, when = FAILPOINTS[failpoint]
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    plain = getattr(owner, name)
    happened, guard = threading.Event(), threading.Lock()

    def act() -> None:
        with guard:
            again = happened.is_set()
            happened.set()
        if not again:
            action()

    def instead(*arguments: Any, **options: Any) -> Any:
        if when == "before":
            act()
        result = plain(*arguments, **options)
        if when == "after":
            act()
        return result

    setattr(owner, name, instead)
    try:
        yield happened
    finally:
        setattr(owner, name, plain)
