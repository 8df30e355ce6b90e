"""What a sandbox changed, merged over its template, is a layer that stands alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.kit.sandbox_host import needs_namespaces
from wellhead.errors import HostError
from wellhead.host.runtime import layers, root
from wellhead.host.runtime.kept import remove_tree
from wellhead.host.runtime.runtime import Template

pytestmark = needs_namespaces

OPAQUE = "trusted.overlay.opaque"


class Change:
    """A template of two layers, and the disk of a sandbox that was made from it."""

    def __init__(self, place: Path, shared: str) -> None:
        self.lower, self.upper_layer, self.disk, self.target = (
            place / name for name in ("lower", "upper", "disk", "out")
        )
        for each in (self.lower, self.upper_layer):
            each.mkdir()
        self.template = Template("t", [self.upper_layer, self.lower], [shared])
        root.prepare_disk(self.disk, [shared])
        self.changed = self.disk / "root" / "upper"
        self.changed_shared = self.disk / "shared" / "0" / "upper"

    def merge(self) -> Path:
        layers.merge(self.template, self.disk, self.target)
        return self.target


@pytest.fixture
def change(tmp_path: Path) -> Change:
    shared = tmp_path / "machine"
    shared.mkdir()
    return Change(tmp_path, str(shared))


def _gone(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def _opaque(path: Path) -> None:
    path.mkdir()
    os.setxattr(path, OPAQUE, b"y")


def _write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_topmost_file_of_a_name_is_taken(change: Change) -> None:
    for place, text in ((change.lower, "old"), (change.upper_layer, "middle"), (change.changed, "new")):
        _write(place / "a" / "file", text)
    _write(change.lower / "a" / "below", "kept")
    target = change.merge()
    assert (target / "a" / "file").read_text() == "new"
    assert (target / "a" / "below").read_text() == "kept"


def test_files_of_the_template_are_not_copied(change: Change) -> None:
    source = _write(change.lower / "big", "x" * 10000)
    assert (change.merge() / "big").stat().st_ino == source.stat().st_ino


def test_what_was_removed_is_not_there_and_leaves_no_marker(change: Change) -> None:
    _write(change.lower / "gone")
    _write(change.lower / "dir" / "gone")
    _write(change.lower / "emptied" / "file")
    _gone(change.changed / "gone")
    _gone(change.changed / "dir")
    _opaque(change.changed / "emptied")
    target = change.merge()
    assert not os.path.lexists(target / "gone") and not os.path.lexists(target / "dir")
    assert os.listdir(target / "emptied") == []
    assert os.listxattr(target / "emptied") == []


def test_a_file_in_the_place_of_a_directory_hides_what_was_in_it(change: Change) -> None:
    _write(change.lower / "x" / "inner")
    _write(change.changed / "x", "a file now")
    _write(change.lower / "y", "a file")
    _write(change.changed / "y" / "inner", "in a directory now")
    target = change.merge()
    assert (target / "x").read_text() == "a file now"
    assert (target / "y" / "inner").read_text() == "in a directory now"


def test_below_a_shared_directory_markers_stay(change: Change) -> None:
    place = change.template.shared[0]
    _gone(change.changed_shared / "removed")
    _opaque(change.changed_shared / "replaced")
    _write(change.changed_shared / "added", "new")
    _write(change.lower / place.lstrip("/") / "of-template", "kept")
    target = change.merge() / place.lstrip("/")
    facts = os.lstat(target / "removed")
    assert stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0
    assert os.getxattr(target / "replaced", OPAQUE) == b"y"
    assert (target / "added").read_text() == "new"
    assert (target / "of-template").read_text() == "kept"


def test_owners_modes_times_links_holes_and_attributes_are_kept(change: Change) -> None:
    file = _write(change.changed / "file", "text")
    os.chown(file, 1000, 1001)
    os.chmod(file, 0o4755)
    os.utime(file, ns=(10**18, 10**18 + 5))
    os.setxattr(file, "user.note", b"kept")
    os.link(file, change.changed / "same")
    os.symlink("/nowhere", change.changed / "link")
    with open(change.changed / "holes", "wb") as holes:
        holes.write(b"begin")
        holes.truncate(50 << 20)
    target = change.merge()
    facts = (target / "file").stat()
    assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (1000, 1001, 0o4755)
    assert facts.st_mtime_ns == 10**18 + 5
    assert os.getxattr(target / "file", "user.note") == b"kept"
    assert (target / "same").stat().st_ino == facts.st_ino
    assert os.readlink(target / "link") == "/nowhere"
    assert (target / "holes").stat().st_size == 50 << 20
    assert (target / "holes").stat().st_blocks * 512 < 1 << 20
    assert (target / "holes").read_bytes()[:6] == b"begin\0"


def test_what_every_sandbox_gets_anew_is_left_out(change: Change) -> None:
    for name in ("dev", "proc", "sys"):
        _write(change.changed / name / "x")
    assert {"dev", "proc", "sys"} & set(os.listdir(change.merge())) == set()


def test_a_layer_that_cannot_be_written_is_told_and_nothing_of_it_is_left(change: Change) -> None:
    change.target = change.target / "in" / "no" / "directory"
    with pytest.raises(HostError, match="cannot write the layer"):
        change.merge()
    assert not change.target.exists()


def test_a_tree_too_deep_to_be_copied_is_told_and_leaves_nothing(change: Change) -> None:
    at = os.open(change.changed, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    with pytest.raises(HostError, match="cannot write the layer"):
        change.merge()
    assert not change.target.exists()
    remove_tree(change.changed)
