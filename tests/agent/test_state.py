from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wellhead.agent.state import Kept, TunnelState
from wellhead.errors import InputError, LocalStateError
from wellhead.model.access import Secret
from wellhead.model.records import TunnelId

HERE = "https://localhost:8443"
THERE = "https://tunnels.example"
KEPT = Kept(TunnelId("t-1"), Secret("whs_one"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_was_kept_is_found_again(home: Path) -> None:
    assert TunnelState(home, "my-agent").load(HERE) is None
    TunnelState(home, "my-agent").save(HERE, KEPT)
    assert TunnelState(home, "my-agent").load(HERE) == KEPT


def test_files_and_directories_are_private(home: Path) -> None:
    state = TunnelState(home, "my-agent")
    old = os.umask(0)
    try:
        state.save(HERE, KEPT)
    finally:
        os.umask(old)
    assert mode(state.path) == 0o600
    for directory in (state.path.parent, state.path.parent.parent, home):
        assert mode(directory) == 0o700
    assert [path.name for path in state.path.parent.iterdir()] == ["state.json"]


def test_a_secret_is_not_offered_to_another_server_and_not_lost_to_it(home: Path) -> None:
    state = TunnelState(home, "my-agent")
    state.save(HERE, KEPT)
    assert state.load(THERE) is None
    state.save(THERE, Kept(TunnelId("t-2")))
    assert state.load(THERE) == Kept(TunnelId("t-2"), None)
    assert state.load(HERE) == KEPT


@pytest.mark.parametrize("name", ["../x", "..", "", "a/b", "/etc/passwd", "x\0y", "UPPER", "a--b", "a" * 64])
def test_a_name_cannot_lead_anywhere_else(home: Path, name: str) -> None:
    with pytest.raises(InputError):
        TunnelState(home, name)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"version": 2}', '{"version": 1}', '{"version": 1, "servers": []}',
     '{"version": 1, "servers": {"https://localhost:8443": 1}}',
     '{"version": 1, "servers": {"https://localhost:8443": {"tunnel_id": 1}}}',
     '{"version": 1, "servers": {"https://localhost:8443": {"tunnel_id": "t", "connect_secret": 5}}}'],
)  # fmt: skip
def test_a_damaged_file_says_what_to_do_and_is_not_overwritten(home: Path, content: str) -> None:
    state = TunnelState(home, "my-agent")
    state.save(HERE, KEPT)
    state.path.write_text(content)
    with pytest.raises(LocalStateError, match="move it away"):
        state.load(HERE)
    assert state.path.read_text() == content


def test_a_damaged_file_is_not_replaced_by_a_save(home: Path) -> None:
    state = TunnelState(home, "my-agent")
    state.save(HERE, KEPT)
    state.path.write_text("{")
    with pytest.raises(LocalStateError):
        state.save(HERE, KEPT)
    assert state.path.read_text() == "{"


def test_a_link_in_place_of_the_file_is_refused(home: Path, tmp_path: Path) -> None:
    state = TunnelState(home, "my-agent")
    state.save(HERE, KEPT)
    elsewhere = tmp_path / "elsewhere"
    state.path.rename(elsewhere)
    state.path.symlink_to(elsewhere)
    with pytest.raises(LocalStateError, match="link"):
        state.load(HERE)


@pytest.mark.parametrize("which", ["tunnels", "tunnels/my-agent"])
def test_a_link_in_place_of_a_directory_is_refused(home: Path, tmp_path: Path, which: str) -> None:
    state = TunnelState(home, "my-agent")
    state.save(HERE, KEPT)
    elsewhere = tmp_path / "elsewhere"
    (home / which).rename(elsewhere)
    (home / which).symlink_to(elsewhere)
    with pytest.raises(LocalStateError, match="link"):
        state.load(HERE)
    with pytest.raises(LocalStateError, match="link"):
        state.save(HERE, KEPT)


def test_a_file_that_others_may_read_is_refused(home: Path) -> None:
    state = TunnelState(home, "my-agent")
    state.save(HERE, KEPT)
    state.path.chmod(0o644)
    with pytest.raises(LocalStateError, match="600"):
        state.load(HERE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("which", ["state.json", "."])
def test_another_users_file_or_directory_is_refused(home: Path, which: str) -> None:
    state = TunnelState(home, "my-agent")
    state.save(HERE, KEPT)
    os.chown(state.path.parent / which, 12345, 12345)
    with pytest.raises(LocalStateError, match="belongs to"):
        state.load(HERE)


def test_a_full_disk_leaves_the_old_content(home: Path) -> None:
    state = TunnelState(home, "my-agent")
    state.save(HERE, KEPT)
    before = state.path.read_text()
    # A limit on the size of files is what a full disk looks like to one process.
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from wellhead.agent.state import Kept, TunnelState\n"
        "from wellhead.errors import LocalStateError\n"
        "from wellhead.model.access import Secret\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "try:\n"
        "    kept = Kept('t', Secret('whs_' + 'x' * 999))\n"
        "    TunnelState(Path(sys.argv[1]), 'my-agent').save('https://x', kept)\n"
        "except LocalStateError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, str(home)], capture_output=True, text=True, timeout=30
    )
    assert "cannot write" in done.stdout, done.stderr
    assert "whs_" not in done.stdout + done.stderr
    assert state.path.read_text() == before
    assert [path.name for path in state.path.parent.iterdir()] == ["state.json"]


def test_the_file_is_as_documented(home: Path) -> None:
    state = TunnelState(home, "my-agent")
    state.save(HERE, KEPT)
    assert json.loads(state.path.read_text()) == {
        "version": 1,
        "name": "my-agent",
        "servers": {HERE: {"tunnel_id": "t-1", "connect_secret": "whs_one"}},
    }


def test_what_is_kept_does_not_show_its_secret() -> None:
    assert "whs_one" not in repr(KEPT)
