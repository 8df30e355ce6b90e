"""Files through a real guest: what is done, what is refused, and with whose rights."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kit.guests import Guest
from wellhead.wire.guest import PAYLOAD_MAX, GuestFrame, frame, message

IS_ROOT = os.geteuid() == 0
as_nobody = pytest.mark.skipif(not IS_ROOT, reason="needs root: to act as another user")


@pytest.fixture
def home(guest: Guest) -> Path:
    """The guest's home, empty."""
    subprocess.run(["rm", "-rf", "--", *map(str, guest.home.iterdir())], check=True)
    return guest.home


def _write(guest: Guest, path: object, data: bytes, **members: object) -> dict[str, Any]:
    frames = [frame(GuestFrame.INPUT, data[at : at + 60_000]) for at in range(0, len(data), 60_000)]
    return guest.ask("write", *frames, frame(GuestFrame.END), path=str(path), **members)


def _read(guest: Guest, path: object, **members: object) -> tuple[dict[str, Any], bytes]:
    with guest.call("read", path=str(path), **members) as call:
        entry = call.answer()["entry"]
        ran = call.rest()
    assert ran.ended
    return entry, ran.out


def _names(guest: Guest, path: object, **members: object) -> list[str]:
    entries = guest.ask("list", path=str(path), **members)["entries"]
    return [each["path"].removeprefix(f"{path}/") for each in entries]


def test_what_is_written_can_be_read(guest: Guest, home: Path) -> None:
    data = os.urandom(1_000_000)
    entry = _write(guest, "deep/down/file", data, size=len(data))["entry"]
    assert entry["path"] == str(home / "deep/down/file")
    assert (entry["name"], entry["type"], entry["size"], entry["mode"]) == ("file", "file", len(data), 0o644)
    assert (home / "deep/down/file").read_bytes() == data
    told, read = _read(guest, "~/deep/down/file")
    assert told == entry
    assert read == data


_PARTS = [(0, 3, b"012"), (8, None, b"89"), (8, 5, b"89"), (10, None, b""), (99, 1, b""), (3, 0, b"")]


@pytest.mark.parametrize(("offset", "length", "wanted"), _PARTS)
def test_a_part_can_be_read(guest: Guest, home: Path, offset: int, length: int | None, wanted: bytes) -> None:
    (home / "digits").write_bytes(b"0123456789")
    assert _read(guest, "digits", offset=offset, length=length)[1] == wanted


def test_files_of_the_kernel_without_a_size_are_read_to_their_end(guest: Guest) -> None:
    assert b"Linux" in _read(guest, "/proc/version")[1]


def test_a_mode_is_as_asked_and_else_as_it_was(guest: Guest, home: Path) -> None:
    _write(guest, "file", b"1", mode=0o4751)
    assert stat.S_IMODE((home / "file").stat().st_mode) == 0o4751
    (home / "file").chmod(0o640)
    _write(guest, "file", b"2")
    assert stat.S_IMODE((home / "file").stat().st_mode) == 0o640
    assert (home / "file").read_bytes() == b"2"


def test_a_symbolic_link_is_written_through_and_read_through(guest: Guest, home: Path) -> None:
    (home / "real").write_bytes(b"old")
    (home / "link").symlink_to("real")
    _write(guest, "link", b"new")
    assert (home / "link").is_symlink()
    assert (home / "real").read_bytes() == b"new"
    entry, data = _read(guest, "link")
    assert (entry["type"], entry["size"], data) == ("file", 3, b"new")
    (home / "circle").symlink_to("circle")
    assert guest.refuses("read", path="circle")[0] == "invalid"
    assert guest.refuses("write", path="circle")[0] == "invalid"


def test_readers_see_the_old_or_the_new_and_nothing_between(guest: Guest, home: Path) -> None:
    (home / "file").write_bytes(b"old")
    with guest.call("write", path="file") as call:
        call.input(b"new")
        while len(list(home.iterdir())) < 2:  # until it has begun
            guest.ask("hello")
        assert (home / "file").read_bytes() == b"old"
        call.end()
        call.answer()
    assert (home / "file").read_bytes() == b"new"
    assert [each.name for each in home.iterdir()] == ["file"]


@pytest.mark.parametrize("frames", [[], [frame(GuestFrame.INPUT, b"half")]])
def test_a_host_that_leaves_halfway_leaves_nothing_behind(
    guest: Guest, home: Path, frames: list[bytes]
) -> None:
    with guest.call("write", *frames, path="file"):
        while not list(home.iterdir()):
            guest.ask("hello")
    while list(home.iterdir()):
        guest.ask("hello")


@pytest.mark.parametrize(("size", "word"), [(3, "of 3"), (5, "3 bytes"), (2, "2 bytes")])
def test_a_size_that_was_told_is_kept_to(guest: Guest, home: Path, size: int, word: str) -> None:
    answer = _write(guest, "file", b"123", size=size)
    if size == 3:
        assert answer["entry"]["size"] == 3
        return
    assert answer["error"]["code"] == "invalid"
    assert str(size) in answer["error"]["message"]
    assert list(home.iterdir()) == []


def test_a_refusal_is_heard_by_a_host_that_is_sending_still(guest: Guest, home: Path) -> None:
    (home / "dir").mkdir()
    with guest.call("write", path="dir") as call:
        for _ in range(50):
            call.input(bytes(PAYLOAD_MAX))
        call.end()
        assert call.answer()["error"]["code"] == "invalid"


def test_what_is_no_input_is_refused_and_nothing_is_left(guest: Guest, home: Path) -> None:
    answer = guest.ask("write", message({"what": 1}), path="file")
    assert answer["error"]["code"] == "invalid"
    assert list(home.iterdir()) == []


def test_devices_and_fifos_are_neither_read_nor_written(guest: Guest, home: Path) -> None:
    os.mkfifo(home / "fifo")
    for path in ("/dev/zero", "/dev/null", str(home / "fifo")):
        for do in ("read", "write"):
            code, told = guest.refuses(do, path=path)
            assert code == "invalid"
            assert path in told
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(not IS_ROOT, reason="needs root: to mount a small disk")
def test_a_full_disk_is_told_and_keeps_what_was_there(guest: Guest, home: Path) -> None:
    (home / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(home / "disk")], check=True)
    try:
        _write(guest, "disk/file", b"old")
        assert _write(guest, "disk/file", bytes(2_000_000))["error"]["code"] == "no_space"
        assert _write(guest, "disk/file", b"x", size=10**15)["error"]["code"] == "no_space"
        assert [each.name for each in (home / "disk").iterdir()] == ["file"]
        assert (home / "disk/file").read_bytes() == b"old"
        moved = guest.ask("move", source="disk/file", target="elsewhere")  # to another disk
        assert moved["entry"]["size"] == 3
        assert list((home / "disk").iterdir()) == []
    finally:
        subprocess.run(["umount", str(home / "disk")], check=True)


def test_entries_are_what_they_are(guest: Guest, home: Path) -> None:
    (home / "file").write_bytes(b"1234")
    os.utime(home / "file", (1, 1_700_000_000))
    (home / "link").symlink_to("nowhere")
    (home / "dir").mkdir(mode=0o700)
    os.mkfifo(home / "fifo")
    me = pwd.getpwuid(os.geteuid()).pw_name
    found = {each["name"]: each for each in guest.ask("list", path="~")["entries"]}
    assert list(found) == ["dir", "fifo", "file", "link"]
    assert [each["type"] for each in found.values()] == ["directory", "other", "file", "symlink"]
    assert found["link"]["symlink_target"] == "nowhere"
    assert (found["file"]["size"], found["file"]["modified_at"]) == (4, 1_700_000_000)
    assert (found["dir"]["mode"], found["dir"]["owner"]) == (0o700, me)
    assert guest.ask("stat", path="link")["entry"] == found["link"]
    assert guest.ask("stat", path="/")["entry"]["name"] == "/"


def test_a_list_goes_as_deep_as_asked_and_not_through_links(guest: Guest, home: Path) -> None:
    (home / "a/b/c").mkdir(parents=True)
    (home / "a/link").symlink_to(home)
    assert _names(guest, home) == ["a"]
    assert _names(guest, home, depth=0) == ["a"]
    assert _names(guest, home, depth=2) == ["a", "a/b", "a/link"]
    assert _names(guest, home, depth=1000) == ["a", "a/b", "a/b/c", "a/link"]
    assert guest.refuses("list", path="a", depth=-1)[0] == "invalid"


def test_a_long_list_comes_whole(guest: Guest, home: Path) -> None:
    wanted = [f"{number:0200d}" for number in range(2000)]
    for name in wanted:
        (home / name).touch()
    assert _names(guest, home) == wanted


def test_names_that_are_no_text_are_shown(guest: Guest, home: Path) -> None:
    (Path(os.fsdecode(os.fsencode(home) + b"/\xff"))).touch()
    assert _names(guest, home) == ["\ufffd"]


def test_directories_are_made(guest: Guest, home: Path) -> None:
    assert guest.ask("mkdir", path="new")["entry"]["type"] == "directory"
    assert guest.refuses("mkdir", path="new")[0] == "exists"
    assert guest.ask("mkdir", path="new/", exist_ok=True)["entry"]["name"] == "new"
    assert guest.refuses("mkdir", path="x/y")[0] == "not_found"
    guest.ask("mkdir", path="x/y/z", parents=True)
    assert (home / "x/y/z").is_dir()
    (home / "file").touch()
    assert guest.refuses("mkdir", path="file", exist_ok=True)[0] == "exists"


def test_things_are_removed(guest: Guest, home: Path) -> None:
    (home / "dir/within").mkdir(parents=True)
    (home / "dir/file").touch()
    (home / "kept").mkdir()
    (home / "kept/file").touch()
    (home / "dir/link").symlink_to(home / "kept")
    (home / "link").symlink_to("kept")
    assert guest.refuses("remove", path="dir")[0] == "exists"
    guest.ask("remove", path="dir", recursive=True)
    guest.ask("remove", path="link", recursive=True)
    assert [each.name for each in home.iterdir()] == ["kept"]
    assert (home / "kept/file").exists()
    assert guest.refuses("remove", path="dir", recursive=True)[0] == "not_found"
    assert guest.refuses("remove", path="/", recursive=True)[0] == "forbidden"
    assert guest.refuses("remove", path="/..", recursive=True)[0] == "forbidden"


def test_trees_deeper_than_any_path_are_listed_and_removed(guest: Guest, home: Path) -> None:
    fd = os.open(home, os.O_RDONLY)
    for name in ["deep", *["d"] * 2500]:
        os.mkdir(name, dir_fd=fd)
        within = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = within
    os.close(fd)
    assert len(guest.ask("list", path="deep", depth=1000)["entries"]) == 1000
    guest.ask("remove", path="deep", recursive=True)
    assert list(home.iterdir()) == []


def test_things_are_moved(guest: Guest, home: Path) -> None:
    (home / "a").write_text("a")
    (home / "b").write_text("b")
    assert guest.refuses("move", source="a", target="b")[0] == "exists"
    assert (home / "b").read_text() == "b"
    assert guest.ask("move", source="a", target="b", overwrite=True)["entry"]["path"] == str(home / "b")
    assert (home / "b").read_text() == "a"
    assert guest.refuses("move", source="a", target="c")[0] == "not_found"
    assert guest.refuses("move", source="b", target="no/such/c")[0] == "not_found"


@pytest.mark.parametrize("do", ["stat", "list", "read", "remove"])
@pytest.mark.parametrize("path", ["no-such", "no/such/deep", "/etc/passwd/within"])
def test_what_is_missing_is_not_found(guest: Guest, do: str, path: str) -> None:
    code, told = guest.refuses(do, path=path)
    assert code == "not_found"
    assert path in told


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({}, "path"),
        ({"path": ""}, "path"),
        ({"path": 5}, "path"),
        ({"path": "a\0b"}, "NUL"),
        ({"path": "\udc80"}, "Unicode"),
        ({"path": "x" * 300}, "xxx"),
        ({"path": "f", "offset": -1}, "offset"),
        ({"path": "f", "length": 1.5}, "length"),
    ],
)
def test_what_makes_no_sense_is_refused(guest: Guest, members: dict[str, object], word: str) -> None:
    code, told = guest.refuses("read", **members)
    assert code == "invalid"
    assert word in told


@as_nobody
def test_a_users_rights_are_its_own_and_no_more(guest: Guest, home: Path) -> None:
    (home / "secret").write_text("roots")
    (home / "secret").chmod(0o600)
    (home / "closed").mkdir(mode=0o700)
    (home / "closed/file").touch()
    (home / "open").mkdir()
    (home / "open").chmod(0o777)
    nobody = {"user": "nobody"}
    assert guest.refuses("read", path=str(home / "secret"), **nobody)[0] == "forbidden"
    assert guest.refuses("write", path=str(home / "secret"), **nobody)[0] == "forbidden"
    assert guest.refuses("write", path=str(home / "new"), **nobody)[0] == "forbidden"
    assert guest.refuses("list", path=str(home / "closed"), **nobody)[0] == "forbidden"
    assert guest.refuses("stat", path=str(home / "closed/file"), **nobody)[0] == "forbidden"
    assert guest.refuses("remove", path=str(home / "secret"), **nobody)[0] == "forbidden"
    assert guest.refuses("remove", path=str(home / "closed"), recursive=True, **nobody)[0] == "forbidden"
    assert guest.refuses("mkdir", path=str(home / "new"), **nobody)[0] == "forbidden"
    move = {"source": str(home / "secret"), "target": str(home / "open/x")}
    assert guest.refuses("move", **move, **nobody)[0] == "forbidden"
    entry = _write(guest, home / "open/mine", b"x", **nobody)["entry"]
    assert entry["owner"] == "nobody"
    assert os.stat(home / "open/mine").st_uid == pwd.getpwnam("nobody").pw_uid
    link = home / "open/link"
    guest.run("ln", "-s", str(home / "secret"), str(link), user="nobody")
    assert guest.refuses("read", path=str(link), **nobody)[0] == "forbidden"
    assert guest.refuses("write", path=str(link), **nobody)[0] == "forbidden"
    assert (home / "secret").read_text() == "roots"


@as_nobody
def test_programs_have_their_users_rights_groups_and_home(guest: Guest) -> None:
    ran = guest.sh("id -un; id -G; echo $HOME $USER; pwd; cat /etc/shadow", user="nobody")
    nobody = pwd.getpwnam("nobody")
    groups = " ".join(map(str, os.getgrouplist("nobody", nobody.pw_gid)))
    lines = ran.out.decode().splitlines()
    assert lines[:3] == ["nobody", groups, f"{nobody.pw_dir} nobody"]
    assert lines[3] == (nobody.pw_dir if os.path.isdir(nobody.pw_dir) else "/")
    assert b"denied" in ran.err


@as_nobody
def test_what_root_writes_over_stays_its_owners(guest: Guest, home: Path) -> None:
    (home / "theirs").write_text("old")
    os.chown(home / "theirs", 65534, 65534)
    assert _write(guest, "theirs", b"new")["entry"]["owner"] == "nobody"
