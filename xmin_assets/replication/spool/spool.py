"""The spool: the folder or object-store URL that holds CSV parts on their way from source to target.

Locally the folders are 0700 and the files 0600, and a folder that belongs to somebody else, or a link put in a
file's place, is refused: the parts hold the table's rows.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from xmin_assets.config import Settings
from xmin_assets.errors import SpoolError, StaleExtract, TransientError
from xmin_assets.replication.spool.sync_id import overtaken

if TYPE_CHECKING:
    from upath import UPath

PART_BYTES = 32 << 20
"""Size from which a CSV file is complete and another one is begun, where files are loaded during the extract."""

_SYNCS = "syncs"

_BUFFER = 1 << 20


def cache_folder(name: str) -> Path:
    """Return a folder in the user's cache.

    Raises:
        SpoolError: the user has no home.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cache).expanduser() / "xmin_assets" / name
    except RuntimeError as error:
        raise SpoolError("This user has no home directory. Set spool: in the settings, or XMIN_SPOOL.") from error


@dataclass(frozen=True)
class Spool:
    """Where the files of all syncs are."""

    root: Path | UPath

    @classmethod
    def open(cls, settings: Settings) -> Spool:
        """Return the spool that the settings name, else ``XMIN_SPOOL``, else a folder in the user's cache.

        Raises:
            SpoolError: it cannot be used, or is not private.
        """
        place = settings.spool or os.environ.get("XMIN_SPOOL") or str(cache_folder("spool"))
        try:
            root = _path(place)
        except (ValueError, ImportError) as error:
            raise SpoolError(
                f"The spool {place} cannot be opened: {error}. An object-store URL needs its fsspec driver installed."
            ) from error
        spool = cls(root.expanduser().absolute() if isinstance(root, Path) else root)
        spool.make_folder(spool.root)
        return spool

    def sync_folder(self, sync_id: str) -> Path | UPath:
        """Return where one sync keeps its CSV parts."""
        return self.root / _SYNCS / sync_id

    def syncs(self) -> Iterator[tuple[str, float]]:
        """Yield the syncs that have files here, with the age of each in seconds."""
        for entry in self._folders():
            with suppress(FileNotFoundError):  # it has just been removed
                yield entry.name, time.time() - _modified(entry)

    def _folders(self) -> list[Path | UPath]:
        folder = self.root / _SYNCS
        if not folder.exists():
            return []
        entries: list[Path | UPath] = list(folder.iterdir())
        return sorted(entries, key=lambda entry: entry.name)

    def make_folder(self, folder: Path | UPath) -> None:
        """Create a folder that only this user can enter.

        Raises:
            SpoolError: it cannot be made, or exists and is open to others.
        """
        local = local_path(folder)
        try:
            if local is None:
                folder.mkdir(parents=True, exist_ok=True)
                return
            _make_private(local)
            _refuse_open(local)
        except OSError as error:
            raise SpoolError(f"The spool folder {folder} cannot be made: {error.strerror or error}.") from error

    @contextmanager
    def write(self, path: Path | UPath) -> Iterator[IO[bytes]]:
        """Open a new file of the spool for writing.

        Raises:
            SpoolError: it exists already, or cannot be written.
        """
        local = local_path(path)
        try:
            if local is None:
                with path.open("wb") as remote:
                    yield remote
                return
            # O_EXCL does not follow links: what is opened here was made here.
            descriptor = os.open(local, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb", buffering=_BUFFER) as file:
                yield file
        except OSError as error:
            raise SpoolError(f"The spool file {path} cannot be written: {error.strerror or error}.") from error

    def replace(self, path: Path | UPath, data: bytes) -> None:
        """Write a file so that a reader finds the old content or the new one, and nothing between.

        Raises:
            SpoolError: it cannot be written.
        """
        if (local := local_path(path)) is None:
            with self.write(path) as file:  # an object store shows an object when it is complete
                file.write(data)
            return
        draft = local.with_name(f".{local.name}.{secrets.token_hex(8)}")
        with self.write(draft) as file:
            file.write(data)
        try:
            draft.replace(local)
        except OSError as error:
            raise SpoolError(f"The spool file {path} cannot be written: {error.strerror or error}.") from error

    @contextmanager
    def read(self, uri: str) -> Iterator[IO[bytes]]:
        """Open a file of the spool for reading.

        Raises:
            StaleExtract: it is gone.
            SpoolError: it cannot be read.
        """
        path = _path(uri)
        local = local_path(path)
        try:
            if local is None:
                with path.open("rb") as remote:
                    yield remote
                return
            descriptor = os.open(local, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with os.fdopen(descriptor, "rb", buffering=_BUFFER) as file:
                yield file
        except FileNotFoundError as error:
            raise StaleExtract(
                f"The CSV file {uri} is gone: another sync of the table was merged meanwhile, or the spool was "
                "cleaned. Extract the table again."
            ) from error
        except OSError as error:
            raise SpoolError(f"The CSV file {uri} cannot be read: {error.strerror or error}.") from error

    def remove(self, sync_id: str) -> None:
        """Delete one sync's files, if there are any."""
        folder = self.sync_folder(sync_id)
        if isinstance(folder, Path):
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.exists():
            folder.rmdir(recursive=True)

    def remove_file(self, uri: str) -> None:
        """Delete one file that nobody needs any more; whether it is there does not matter."""
        _path(uri).unlink(missing_ok=True)

    def remove_merged(self, sync_id: str) -> None:
        """Delete the files of a sync that was merged, and those of earlier ones of its table, which cannot be any more.

        A process that was killed leaves its files behind; so they last until the next sync of the table at most.
        """
        for folder in self._folders():
            if overtaken(folder.name, by=sync_id):
                self.remove(folder.name)
        self.remove(sync_id)


def local_path(path: Path | UPath) -> Path | None:
    """Return the path in the local file system, or None for an object store."""
    return path if isinstance(path, Path) else None


def rewind(file: IO[bytes], size: int) -> None:
    """Forget what was written to the file after its first `size` bytes.

    Raises:
        TransientError: the file is in an object store, where nothing can be taken back.
    """
    if file.tell() == size:
        return
    if not isinstance(file, io.BufferedWriter):
        raise TransientError("A batch was cut while it was written to an object store; run the sync again.")
    file.flush()
    file.seek(size)
    file.truncate()


def _path(text: str) -> Path | UPath:
    if "://" not in text:
        return Path(text)
    from upath import UPath  # here, because few need it and it takes a while

    path = UPath(text)
    return Path(path.path) if path.protocol in ("file", "local") else path


def _make_private(folder: Path) -> None:
    if folder.exists():
        return
    if not folder.parent.exists():
        _make_private(folder.parent)
    # The mode is given at creation: there is no moment in which others may enter.
    folder.mkdir(mode=0o700, exist_ok=True)


def _refuse_open(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SpoolError(f"The spool folder {folder} is not a directory of this user. Name another spool.")
    if found.st_mode & 0o077:
        raise SpoolError(f"The spool folder {folder} is open to other users. Run: chmod 700 {folder}")


def _modified(entry: Path | UPath) -> float:
    local = local_path(entry)
    if local is not None:
        return local.stat().st_mtime
    children = [child.stat().st_mtime for child in entry.iterdir()]
    return max(children, default=0.0)
