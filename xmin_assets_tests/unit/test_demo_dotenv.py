"""The demo's lines in .env, beside those of others."""

from __future__ import annotations

import stat
from pathlib import Path

from dotenv import dotenv_values

from xmin_assets.demo.dotenv import clear_env, write_env

FIRST = {"XMIN_SOURCE_URL": "postgresql://a", "XMIN_TARGET_URL": "postgresql://b", "DAGSTER_POSTGRES_URL": "c"}
SECOND = {"XMIN_SOURCE_URL": "postgresql://d", "XMIN_TARGET_URL": "postgresql://e", "DAGSTER_POSTGRES_URL": "f"}


def test_a_new_file_holds_the_three_addresses_and_is_private(tmp_path: Path) -> None:
    path = write_env(tmp_path, FIRST)
    assert dotenv_values(path) == FIRST
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_open_file_becomes_private(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTHER=1\n")
    (tmp_path / ".env").chmod(0o644)
    write_env(tmp_path, FIRST)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_foreign_lines_and_comments_stay_in_place(tmp_path: Path) -> None:
    foreign = "# mine\nOTHER='a b'\n\nXMIN_CONFIG=tables.yaml\n"
    (tmp_path / ".env").write_text(foreign)
    path = write_env(tmp_path, FIRST)
    assert path.read_text().startswith(foreign)
    assert dotenv_values(path) == {"OTHER": "a b", "XMIN_CONFIG": "tables.yaml", **FIRST}


def test_writing_again_replaces_the_own_lines_only(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTHER=1\n")
    write_env(tmp_path, FIRST)
    with (tmp_path / ".env").open("a") as file:
        file.write("LATER=2\n")
    path = write_env(tmp_path, SECOND)
    assert dotenv_values(path) == {"OTHER": "1", "LATER": "2", **SECOND}
    assert "postgresql://a" not in path.read_text()


def test_an_address_of_somebody_else_is_kept_as_a_comment_and_restored(tmp_path: Path) -> None:
    theirs = "export XMIN_SOURCE_URL=postgresql://production\nOTHER=1\n"
    (tmp_path / ".env").write_text(theirs)
    write_env(tmp_path, FIRST)
    assert dotenv_values(write_env(tmp_path, SECOND)) == {"OTHER": "1", **SECOND}
    clear_env(tmp_path)
    assert (tmp_path / ".env").read_text() == theirs


def test_a_last_line_without_an_end_is_not_joined_with_the_next(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTHER=1")
    assert dotenv_values(write_env(tmp_path, FIRST)) == {"OTHER": "1", **FIRST}


def test_clearing_deletes_a_file_that_held_nothing_else(tmp_path: Path) -> None:
    write_env(tmp_path, FIRST)
    clear_env(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_clearing_without_a_file_does_nothing(tmp_path: Path) -> None:
    clear_env(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "shared.env").write_text("OTHER=1\n")
    (tmp_path / ".env").symlink_to("shared.env")
    write_env(tmp_path, FIRST)
    assert (tmp_path / ".env").is_symlink()
    assert dotenv_values(tmp_path / "shared.env") == {"OTHER": "1", **FIRST}
