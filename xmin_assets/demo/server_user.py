"""Whom PostgreSQL's programs run as, and which folders that user can reach.

PostgreSQL refuses to run as root. So root starts its programs as ``nobody``, an ordinary user as itself.
Ownership and permissions are changed only on folders that this package made: a folder that the other user
cannot enter is not opened up, another place is taken instead.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmin_assets.demo.errors import DemoError

NOBODY = 65534


@dataclass(frozen=True)
class ServerUser:
    """The account of the servers; ``drops_rights`` when this process has to become it."""

    uid: int
    gid: int
    drops_rights: bool

    @classmethod
    def current(cls) -> ServerUser:
        """Return this process's own account, or ``nobody`` for root."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), drops_rights=False)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            return cls(NOBODY, NOBODY, drops_rights=True)
        return cls(nobody.pw_uid, nobody.pw_gid, drops_rights=True)

    @property
    def name(self) -> str:
        """The account's name, or its number where it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, in /, with text pipes; ``options`` are those of ``subprocess.run``.

        Raises PermissionError when the user may not execute it, DemoError when nobody could.
        """
        if self.drops_rights:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        try:
            # The working directory of this process may be closed to the other user; / is open to all.
            return subprocess.run([str(word) for word in command], cwd="/", text=True, check=False, **options)
        except (subprocess.SubprocessError, OSError) as error:
            if isinstance(error, PermissionError) and error.filename == str(command[0]):
                raise
            raise DemoError(f"Cannot run {command[0]} as the user {self.name}: {error}.") from error

    def can_enter(self, folder: Path) -> bool:
        """Return whether the user can reach this folder, asked of the kernel: mode bits do not tell of ACLs."""
        return self.run("/bin/sh", "-c", 'cd -- "$1"', "sh", folder, capture_output=True).returncode == 0

    def own(self, path: Path) -> None:
        """Give the user a file or folder that this process has just made."""
        if self.drops_rights:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def open_passage(self, folder: Path) -> None:
        """Let the user walk through a folder that this process has just made, and see nothing in it."""
        folder.chmod(0o711 if self.drops_rights else 0o700)

    def make_folder(self, prefix: str, parents: Sequence[Path]) -> Path:
        """Make a folder of an unpredictable name in the first of ``parents`` that serves us and the user."""
        for parent in parents:
            if not (parent.is_dir() and os.access(parent, os.W_OK) and self.can_enter(parent)):
                continue
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
            self.open_passage(folder)
            return folder
        raise DemoError(f"No folder that the user {self.name} can enter; tried {', '.join(map(str, parents))}.")
