"""The official sandbox SDKs, unmodified: their own live tests, of both generations, on a host of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.hosted import NEEDED, hosted
from tests.kit.programs import Edge
from tests.kit.wrenn import NEW, OLD, wrenn
from tests.system.test_howto import programs

pytestmark = [*NEEDED, pytest.mark.slow, pytest.mark.timeout(900)]

INTERNET = (  # which a machine of tests has not
    "TestGitClone",  # clones from a public host
    "TestGitErrors::test_clone_with_branch",  # the same
    "TestLongRunningCommands::test_apt_get_install",  # asks Debian's mirrors
    "TestLongRunningCommands::test_apt_installed_binary_runs",  # runs what that one would have installed
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with hosted(tmp_path_factory.mktemp("wrenn") / ".wellhead") as edge:
        yield edge


@pytest.mark.parametrize(
    ("version", "file", "deselected", "least"),
    [
        (OLD, "test_integration.py", (), 43),
        (NEW, "test_integration.py", (), 51),
        (NEW, "test_integration_advanced.py", INTERNET, 31),
    ],
    ids=["older", "newer", "newer-advanced"],
)
def test_the_sdks_own_live_tests_pass(
    server: Edge, tmp_path: Path, version: str, file: str, deselected: tuple[str, ...], least: int
) -> None:
    suite = wrenn(version).suite(file, server, tmp_path, deselected)
    assert not suite.failed, suite.text[-12000:]
    assert suite.passed >= least, suite.text[-4000:]


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_program_of_the_sdk_needs_nothing_but_its_base_url(
    server: Edge, tmp_path: Path, version: str
) -> None:
    said = wrenn(version).run(
        """
from wrenn import Capsule
with Capsule(wait=True) as capsule:
    print(capsule.commands.run("echo out; echo err >&2; exit 3"))
    capsule.files.write("notes/one.txt", "text")
    print(capsule.files.read("notes/one.txt"))
""",
        server,
        tmp_path,
        tls=True,
    )
    assert "exit_code=3" in said
    assert "out\\n" in said and "err\\n" in said
    assert said.splitlines()[-1] == "text"


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_terminal_of_the_sdk_has_its_size_and_tells_its_end(
    server: Edge, tmp_path: Path, version: str
) -> None:
    said = wrenn(version).run(
        """
from wrenn import Capsule
with Capsule(wait=True) as capsule, capsule.pty("/bin/sh", cols=100, rows=30) as terminal:
    terminal.write(b"stty size; exit 7\\n")
    text, code = b"", None
    for event in terminal:
        if event.type == "output":
            text += event.data
        elif event.type == "exit":
            code = event.exit_code
            break
    print(b"30 100" in text, code)
""",
        server,
        tmp_path,
    )
    assert said.splitlines()[-1] == "True 7"


@pytest.mark.parametrize(("version", "user"), [(OLD, "root"), (NEW, "wrenn-user")])
def test_the_program_of_the_page_runs(server: Edge, tmp_path: Path, version: str, user: str) -> None:
    (program,) = programs("wrenn.md")
    said = wrenn(version).run(program, server, tmp_path, tls=True)
    assert said.splitlines() == [f"hello from {user}", "text"]
