"""What the demo remembers between commands, in ``.demo/pair.json`` of the project's folder.

The servers' data is in ``.demo/servers``, where the servers' user can go there. Root drops its rights to
``nobody``, who cannot enter a project below /root: then the data is in a folder of an unpredictable name under
/var/lib, or a temporary folder where /var/lib is read-only, and ``.demo`` remembers which.

The file holds passwords, so only its owner can read it, and .demo belongs to the account that made it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xmin_assets.demo.errors import DemoError
from xmin_assets.demo.server_user import ServerUser

FOLDER = ".demo"
ROLES = ("postgres", "app", "xmin_reader", "xmin_writer", "dagster")
# Outside the range that Linux hands to outgoing connections, so that a restart finds them free again.
FIRST_PORTS = {"source": 25432, "target": 25433}
# /var/lib and /var/tmp outlive a reboot.
ELSEWHERE = (Path("/var/lib"), Path("/var/tmp"), Path(tempfile.gettempdir()))


@dataclass(frozen=True)
class Memory:
    """One demo: the folder of its servers, their last ports, and the passwords of its roles."""

    servers: Path
    ports: Mapping[str, int] = field(default_factory=lambda: dict(FIRST_PORTS))
    passwords: Mapping[str, str] = field(
        default_factory=lambda: {role: secrets.token_urlsafe(24) for role in ROLES}, repr=False
    )


@contextmanager
def only_one(directory: Path, *, create: bool) -> Iterator[None]:
    """Hold the demo of ``directory`` for one command, others wait; ``create`` makes .demo if need be."""
    folder = directory / FOLDER
    if create and not folder.exists():
        folder.mkdir(mode=0o700)
        ServerUser.current().open_passage(folder)
    if not folder.is_dir():
        yield
        return
    if folder.stat().st_uid != os.geteuid():
        raise DemoError(f"{folder} was made by another user: run as that user, or delete it and start again.")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def recall(directory: Path) -> Memory | None:
    """Return what is remembered, or None when there is no demo, or its servers' folder is gone."""
    file = directory / FOLDER / "pair.json"
    try:
        content = json.loads(file.read_text())
        memory = Memory(directory / content["servers"], content["ports"], content["passwords"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DemoError(f"{file} is damaged: delete {file.parent} and start again.") from error
    return memory if memory.servers.is_dir() else None


def begin(directory: Path, user: ServerUser) -> Memory:
    """Choose and make a folder for the servers, and remember it."""
    inside = directory / FOLDER / "servers"
    if user.can_enter(inside.parent):
        inside.mkdir(mode=0o700, exist_ok=True)
        user.open_passage(inside)
        servers = inside
    else:
        servers = user.make_folder("xmin-assets-demo-", ELSEWHERE)
    memory = Memory(servers)
    remember(directory, memory)
    return memory


def remember(directory: Path, memory: Memory) -> None:
    """Write it down for the next command."""
    content = asdict(memory)
    # Relative where it can be, so that a project that moves finds its servers.
    inside = memory.servers.is_relative_to(directory)
    content["servers"] = str(memory.servers.relative_to(directory) if inside else memory.servers)
    write_private(directory / FOLDER / "pair.json", json.dumps(content, indent=2) + "\n")


def forget(directory: Path, memory: Memory | None) -> None:
    """Delete the servers' data and everything remembered."""
    if memory is not None:
        shutil.rmtree(memory.servers, ignore_errors=True)
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable for its owner alone from its first byte."""
    # Made as 0600 by mkstemp, beside the file it replaces: a rename does not cross filesystems.
    handle, unfinished = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
