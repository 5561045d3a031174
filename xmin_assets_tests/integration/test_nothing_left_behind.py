"""The test session leaves no process and no file behind, however it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]

SESSION = """
import os, signal
import pytest

def test_a_session_that_ends(source_server, workshop):
    print("FOLDER", workshop.folder, "PORT", source_server.port, flush=True)
    {ending}
"""


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "assert False",
        "os.kill(os.getpid(), signal.SIGINT)",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "os.kill(os.getpid(), signal.SIGKILL)",
    ],
)
def test_servers_and_files_end_with_the_session(tmp_path: Path, ending: str) -> None:
    (tmp_path / "test_session.py").write_text(SESSION.format(ending=ending))
    command = ["-m", "pytest", "-s", "-p", "xmin_assets_tests.conftest", "--rootdir", str(tmp_path)]
    # The output ends when the last process that holds it does, which is the guard: no waiting is needed.
    ended = subprocess.run(
        [sys.executable, *command, "-c", "/dev/null", str(tmp_path / "test_session.py")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    words = ended.stdout.split()
    assert "FOLDER" in words, ended.stdout
    folder, port = Path(words[words.index("FOLDER") + 1]), int(words[words.index("PORT") + 1])
    assert folder.name.startswith("xmin-assets-tests-")
    assert not folder.exists()
    assert not [c for c in psutil.net_connections("inet") if c.status == "LISTEN" and c.laddr.port == port]
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]
