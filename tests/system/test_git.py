"""git over HTTP through the tunnel: clone, a push of 50 MB, fetch, a shallow clone; git checks the bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.outsiders import Outsider, wsgi_server
from tests.system.conftest import House

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.needs("git", "unshare"),
]

SIZE = 50 * 1024 * 1024  # bytes that do not compress: git sends them chunked, after a probe of four bytes
AUTHOR = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
SETTINGS = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.compression", "GIT_CONFIG_VALUE_0": "0"}


class Repository:
    """A working copy, in which commands are run."""

    def __init__(self, visitor: Outsider, path: Path) -> None:
        self._visitor = visitor
        self.path = path

    def git(self, *arguments: str) -> str:
        return self._visitor.run("git", *arguments, cwd=self.path, env=AUTHOR | SETTINGS).strip()

    def commit(self, name: str, content: bytes) -> None:
        (self.path / name).write_bytes(content)
        self.git("add", name)
        self.git("commit", "-q", "-m", name)


def test_what_is_pushed_through_the_tunnel_is_what_is_cloned_from_it(house: House, tmp_path: Path) -> None:
    visitor = Outsider(house.edge, house.agent, tmp_path)
    visitor.run("git", "init", "-q", "--bare", "-b", "main", "held/project.git")
    for setting, value in (("http.receivepack", "true"), ("core.compression", "0")):
        visitor.run("git", "-C", "held/project.git", "config", setting, value)
    url = f"{house.agent.url}/project.git"

    def clone(name: str, *flags: str) -> Repository:
        visitor.run("git", "clone", "-q", *flags, url, name, env=SETTINGS)
        return Repository(visitor, tmp_path / name)

    with wsgi_server("git", tmp_path / "held", house.port):
        first = clone("first")
        first.git("checkout", "-q", "-b", "main")
        first.commit("small", b"one\n")
        first.git("push", "-q", "origin", "main")
        second = clone("second")
        first.commit("large", os.urandom(SIZE))
        first.git("push", "-q", "origin", "main")
        second.git("pull", "-q", "--ff-only")
        assert second.git("rev-parse", "HEAD") == first.git("rev-parse", "HEAD")
        assert (second.path / "large").read_bytes() == (first.path / "large").read_bytes()
        shallow = clone("shallow", "--depth", "1")
        assert shallow.git("rev-list", "--count", "HEAD") == "1"
        for repository in (second, shallow):
            repository.git("fsck", "--full", "--strict")
