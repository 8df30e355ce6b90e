from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from wellhead.errors import HostConflict, HostError, HostInvalid
from wellhead.host.disks import Disks, _copy_sparse
from wellhead.model.sandboxes import new_sandbox_id

MEGABYTE = 1024 * 1024


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    disks = Disks(tmp_path)
    if not disks.limited:
        pytest.skip(f"needs root and loop devices: {disks.why_not}")
    yield disks
    for each in disks.leftovers():
        disks.free(each)
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def _fill(path: Path) -> int:
    """Write until there is no room; how many bytes there was room for."""
    written = 0
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                written += file.write(bytes(MEGABYTE))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return written


def _loop_devices(image: Path) -> str:
    return subprocess.run(["losetup", "-j", str(image)], capture_output=True, text=True, check=True).stdout


def test_a_disk_cannot_outgrow_its_size_and_leaves_nothing(disks: Disks, tmp_path: Path) -> None:
    sandbox = new_sandbox_id()
    place = disks.make(sandbox, 32)
    image = tmp_path / "disks" / f"{sandbox}.img"
    assert _loop_devices(image)
    assert stat.S_IMODE(place.stat().st_mode) & 0o022 == 0
    written = _fill(place / "file")
    assert 24 * MEGABYTE < written < 32 * MEGABYTE
    assert disks.used_bytes(sandbox) >= written
    disks.free(sandbox)
    assert not place.exists()
    assert not image.exists()
    assert not _loop_devices(image)
    disks.free(sandbox)


def test_a_disk_takes_what_was_written_not_its_size(disks: Disks, tmp_path: Path) -> None:
    sandbox = new_sandbox_id()
    disks.make(sandbox, 5120)
    image = tmp_path / "disks" / f"{sandbox}.img"
    assert image.stat().st_size == 5120 * MEGABYTE
    assert image.stat().st_blocks * 512 < 16 * MEGABYTE
    assert disks.used_bytes(sandbox) < 16 * MEGABYTE


def test_disks_are_each_sandboxs_own(disks: Disks) -> None:
    first, second = disks.make(new_sandbox_id(), 32), disks.make(new_sandbox_id(), 32)
    (first / "file").write_text("first")
    assert not (second / "file").exists()


def test_a_disk_in_use_goes_once_it_is_let_go(
    disks: Disks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wellhead.host.disks._BUSY_SECONDS", 0.0)
    sandbox = new_sandbox_id()
    place = disks.make(sandbox, 32)
    with (place / "file").open("w"):
        disks.free(sandbox)
        assert not place.exists()
    assert not _loop_devices(tmp_path / "disks" / f"{sandbox}.img")


def test_what_an_earlier_host_left_is_found(disks: Disks, tmp_path: Path) -> None:
    sandbox = new_sandbox_id()
    disks.make(sandbox, 32)
    assert Disks(tmp_path).leftovers() == [sandbox]


def test_a_sandbox_has_one_disk(disks: Disks) -> None:
    sandbox = new_sandbox_id()
    disks.make(sandbox, 32)
    with pytest.raises(HostConflict, match="has a disk already"):
        disks.make(sandbox, 32)


@pytest.mark.parametrize("size_mb", [0, 15, -1, 2**40])
def test_a_size_that_no_disk_can_have_is_refused(tmp_path: Path, size_mb: int) -> None:
    with pytest.raises(HostInvalid, match=f"a disk of {size_mb} MB; it has 16 to"):
        Disks(tmp_path).make(new_sandbox_id(), size_mb)


def test_without_loop_devices_a_disk_is_a_directory_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(disks: Disks) -> None:
        raise HostError("mount says: no loop devices")

    monkeypatch.setattr(Disks, "_probe", refused)
    disks, sandbox = Disks(tmp_path), new_sandbox_id()
    place = disks.make(sandbox, 32)
    assert not disks.limited
    assert "no limit of their own: mount says: no loop devices" in disks.why_not
    assert "disks of sandboxes have no limit" in caplog.text
    (place / "file").write_bytes(bytes(100_000))
    assert disks.used_bytes(sandbox) >= 100_000
    assert disks.leftovers() == [sandbox]
    disks.free(sandbox)
    assert disks.leftovers() == []


def test_a_copy_has_the_holes_of_its_source(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as file:
        file.write(b"begin")
        file.seek(40 * MEGABYTE)
        file.write(b"middle")
        file.truncate(50 * MEGABYTE)
    _copy_sparse(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert os.stat(target).st_blocks * 512 < MEGABYTE
