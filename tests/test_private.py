from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wellhead import private
from wellhead.errors import LocalStateError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return private.make_directory(tmp_path / "a" / "b")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777 & ~0o700])
def test_files_are_0600_in_directories_of_0700_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        directory = private.make_directory(tmp_path / "a" / "b")
        private.write(directory / "file", "text")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a"), mode(directory), mode(directory / "file")) == (0o700, 0o700, 0o600)
    assert private.read(directory / "file") == "text"


def test_no_file_is_none(directory: Path) -> None:
    assert private.read(directory / "file") is None


def test_a_directory_is_made_once_and_then_checked(directory: Path) -> None:
    assert private.make_directory(directory) == directory
    directory.chmod(0o770)
    with pytest.raises(LocalStateError, match="mode 770, others may write into it; run: chmod 700"):
        private.make_directory(directory)


def test_a_directory_that_is_a_link_or_a_file_is_refused(directory: Path) -> None:
    link, file = directory / "link", directory / "file"
    link.symlink_to(directory)
    file.touch()
    with pytest.raises(LocalStateError, match="is a symbolic link"):
        private.make_directory(link)
    with pytest.raises(LocalStateError, match="is not a directory"):
        private.make_directory(file)


def test_a_parent_where_everybody_may_swap_directories_is_refused(directory: Path) -> None:
    parent = directory / "shared"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(LocalStateError, match="writable for everybody"):
        private.make_directory(parent / "mine")
    parent.chmod(0o1777)  # as /tmp: entries are moved by their owners only
    private.make_directory(parent / "mine")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_is_refused(directory: Path) -> None:
    private.write(directory / "file", "text")
    os.chown(directory / "file", 12345, 12345)
    with pytest.raises(LocalStateError, match=f"belongs to user 12345, expected {os.geteuid()}"):
        private.read(directory / "file")
    os.chown(directory, 12345, 12345)
    with pytest.raises(LocalStateError, match="belongs to user 12345"):
        private.write(directory / "file", "text")


def test_a_file_that_is_a_link_or_open_to_others_is_not_read(directory: Path) -> None:
    private.write(directory / "file", "text")
    (directory / "link").symlink_to("file")
    with pytest.raises(LocalStateError, match="symbolic link"):
        private.read(directory / "link")
    (directory / "file").chmod(0o640)
    with pytest.raises(LocalStateError, match="mode 640, expected 600"):
        private.read(directory / "file")


def test_a_pipe_or_a_directory_in_place_of_the_file_is_refused_without_waiting(directory: Path) -> None:
    os.mkfifo(directory / "pipe", 0o600)
    (directory / "sub").mkdir(mode=0o700)
    for name in ("pipe", "sub"):
        with pytest.raises(LocalStateError):
            private.read(directory / name)


def test_a_link_in_place_of_the_file_is_replaced_not_followed(directory: Path) -> None:
    (directory / "other").write_text("untouched")
    (directory / "file").symlink_to("other")
    private.write(directory / "file", "text")
    assert private.read(directory / "file") == "text"
    assert (directory / "other").read_text() == "untouched"


def test_bytes_that_are_no_text_are_an_error_of_ours(directory: Path) -> None:
    private.write(directory / "file", "")
    (directory / "file").write_bytes(b"\xff")
    with pytest.raises(LocalStateError):
        private.read(directory / "file")


def test_a_write_that_fails_leaves_the_previous_text_and_no_litter(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.write(directory / "file", "before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalStateError, match="no space left on device"):
        private.write(directory / "file", "after")
    assert private.read(directory / "file") == "before"
    assert [path.name for path in directory.iterdir()] == ["file"]


def test_what_is_written_once_stays(directory: Path) -> None:
    private.write_once(directory / "file", "first")
    private.write_once(directory / "file", "second")
    assert private.read(directory / "file") == "first"
    assert mode(directory / "file") == 0o600
    assert os.listdir(directory) == ["file"]
