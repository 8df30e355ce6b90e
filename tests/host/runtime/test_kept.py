from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wellhead.errors import HostError
from wellhead.host.runtime import processes
from wellhead.host.runtime.kept import Kept, KeptSandboxes, bind_guest, free_guest, remove_tree
from wellhead.host.runtime.runtime import SandboxSpec, Template
from wellhead.model.sandboxes import new_sandbox_id


def _kept(born: str = "") -> Kept:
    template = Template(
        "own", [Path("/layers/a")], ["/usr"], env={"A": "1"}, start=["true"], healthy_port=8888
    )
    spec = SandboxSpec(new_sandbox_id(), template, vcpus=0.5)
    return Kept(spec, os.getpid(), born, Path("/run/guest.sock"), address="10.12.0.1", slot=3)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    sandboxes, kept = KeptSandboxes(tmp_path), _kept()
    sandboxes.write(kept)
    assert KeptSandboxes(tmp_path).read(kept.spec.id) == kept
    assert sandboxes.ids() == [kept.spec.id]
    state = sandboxes.path(kept.spec.id) / "state.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600


def test_nothing_written_is_told_from_what_cannot_be_understood(tmp_path: Path) -> None:
    sandboxes, kept = KeptSandboxes(tmp_path), _kept()
    assert sandboxes.read(kept.spec.id) is None
    sandboxes.write(kept)
    path = sandboxes.path(kept.spec.id) / "state.json"
    path.write_text(path.read_text().replace('"slot": 3', '"slot": "x"'))
    with pytest.raises(HostError, match=r"state\.json is not the state of a sandbox: slot"):
        sandboxes.read(kept.spec.id)


def test_what_does_not_look_like_a_sandbox_is_none(tmp_path: Path) -> None:
    (tmp_path / "sandboxes" / "other").mkdir(parents=True)
    assert KeptSandboxes(tmp_path).ids() == []


def test_a_process_with_the_same_number_is_not_the_same() -> None:
    mine = processes.born(os.getpid())
    assert mine is not None
    assert _kept(mine).is_alive()
    assert not _kept("another").is_alive()


def test_a_removed_sandbox_leaves_nothing(tmp_path: Path) -> None:
    sandboxes, kept = KeptSandboxes(tmp_path), _kept()
    sandboxes.write(kept)
    sandboxes.remove(kept.spec.id)
    sandboxes.remove(kept.spec.id)
    assert sandboxes.ids() == []


def test_directories_that_nobody_may_read_are_removed_too(tmp_path: Path) -> None:
    inner = tmp_path / "tree" / "closed" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("")
    inner.chmod(0)
    inner.parent.chmod(0)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("directory", dir_fd=at)
        below = os.open("directory", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT, dir_fd=at))
    os.close(at)
    remove_tree(top)
    assert not top.exists()


def test_a_link_out_of_a_tree_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(outside)
    remove_tree(tmp_path / "tree")
    assert outside.is_dir()


@pytest.mark.parametrize("depth", [0, 120])
def test_a_socket_has_a_path_that_sockets_can_have(tmp_path: Path, depth: int) -> None:
    directory = tmp_path / ("d" * depth) if depth else tmp_path
    directory.mkdir(exist_ok=True)
    listening, path = bind_guest(directory)
    with listening:
        assert listening.getsockname() == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    free_guest(path)
    assert not path.exists()
    assert path.parent.exists() == (path.parent == directory)
