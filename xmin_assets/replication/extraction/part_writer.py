"""One worker's CSV files of one kind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import SpoolError
from xmin_assets.postgres.copy import copy_out
from xmin_assets.replication.manifests.extract import Part
from xmin_assets.replication.manifests.plan import BlockRange
from xmin_assets.replication.spool.spool import PART_BYTES, Spool, rewind

if TYPE_CHECKING:
    from upath import UPath


class PartWriter:
    """One worker's CSV files of one kind, the first one opened with its first batch.

    Args:
        spool: where the files go.
        sync_id: of the sync.
        name: of the files, without a suffix.
        files: closes the file that is open in the end.
        on_part_complete: called with each file that is large enough, and closed; without it there is one file, of any
            size.
    """

    def __init__(
        self,
        spool: Spool,
        sync_id: str,
        name: str,
        files: ExitStack,
        on_part_complete: Callable[[Part], None] | None = None,
    ) -> None:
        self._spool = spool
        self._stem = spool.sync_folder(sync_id) / name
        self._files = files
        self._on_part_complete = on_part_complete
        self._completed: list[Part] = []
        self._file: IO[bytes] | None = None
        self._closing = ExitStack()
        self._rows = 0
        self._bytes = 0
        self._appended = 0
        self._end = 0
        self._noted: list[BlockRange] = []
        self._ranges: list[BlockRange] = []

    @property
    def _path(self) -> Path | UPath:
        number = f"-{len(self._completed)}" if self._completed else ""
        return self._stem.with_name(f"{self._stem.name}{number}.csv")

    @property
    def rows(self) -> int:
        """How many rows were written."""
        return self._rows + sum(part.rows for part in self._completed)

    def append(self, cursor: ext.cursor, query: sql.Composable) -> int:
        """Copy the query's rows to the end of the file, and return their number. They count when they are kept.

        Raises:
            SpoolError: the file cannot be written.
            XminAssetsError: a complete file could not be loaded.
        """
        if self._file is None:
            self._closing = self._files.enter_context(ExitStack())
            self._file = self._closing.enter_context(self._spool.write(self._path))
        try:
            rows = copy_out(cursor, query, self._file)
            self._appended += rows
            self._end = self._file.tell()
        except OSError as error:
            raise SpoolError(f"The spool file {self._path} cannot be written: {error.strerror or error}.") from error
        return rows

    def note(self, block_range: BlockRange) -> None:
        """Remember with the file that what was appended are the rows of these blocks. It counts when they are kept."""
        self._noted.append(block_range)

    def rotate(self) -> None:
        """Close the file and report it as complete, if it is large enough.

        Raises:
            XminAssetsError: an earlier complete file could not be loaded.
        """
        part = self._open_part()
        if self._on_part_complete is None or part is None or part.bytes < PART_BYTES:
            return
        self._closing.close()
        self._file, self._rows, self._bytes, self._end, self._ranges = None, 0, 0, 0, []
        self._completed.append(part)
        self._on_part_complete(part)

    def keep(self) -> None:
        """Let what was appended count: all of its task is done, and nobody does it again."""
        self._rows, self._bytes, self._appended = self._rows + self._appended, self._end, 0
        self._ranges += self._noted
        self._noted = []

    def discard(self) -> None:
        """Drop what a failed task has left, batches included that were complete: another worker does it again."""
        self._appended, self._end, self._noted = 0, self._bytes, []
        if self._file is not None:
            with suppress(OSError):
                rewind(self._file, self._bytes)

    def flush(self) -> None:
        """Let other readers of the file see all of it."""
        if self._file is not None:
            self._file.flush()

    def parts(self) -> list[Part]:
        """Return the files that have rows."""
        return [*self._completed, *([last] if (last := self._open_part()) else [])]

    def _open_part(self) -> Part | None:
        return Part(str(self._path), self._rows, self._bytes, tuple(self._ranges)) if self._rows else None
