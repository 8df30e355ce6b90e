"""The official sandbox SDKs, unmodified: their own live tests, of both generations, on a host of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.hosted import NEEDED, hosted
from tests.kit.hosts import SandboxApi
from tests.kit.programs import Edge, eventually
from tests.kit.wrenn import NEW, OLD, wrenn
from tests.system.test_howto import HOWTO, programs, shell

pytestmark = [*NEEDED, pytest.mark.slow, pytest.mark.timeout(900)]

INTERNET = (  # which a machine of tests has not
    "TestGitClone",  # clones from a public host
    "TestGitErrors::test_clone_with_branch",  # the same
    "TestLongRunningCommands::test_apt_get_install",  # asks Debian's mirrors
    "TestLongRunningCommands::test_apt_installed_binary_runs",  # runs what that one would have installed
)


BUILD_SECONDS = 400
PUBLIC_HOST = ("TestCodeRunnerMimeTypes::test_requests_status_code",)  # asks one
CODE_RUNNER = "code-runner-beta"  # the template that the SDK's code runner asks for

SERVER = """
import tornado.ioloop, tornado.web, tornado.websocket

class Page(tornado.web.RequestHandler):
    def get(self):
        self.write({"target": self.request.uri, "key": self.request.headers.get("X-API-Key")})

class Echo(tornado.websocket.WebSocketHandler):
    def on_message(self, message):
        self.write_message(message)

tornado.web.Application([("/echo", Echo), ("/.*", Page)]).listen(9000, "127.0.0.1")
tornado.ioloop.IOLoop.current().start()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    home = tmp_path_factory.mktemp("wrenn")
    (command,) = re.findall(
        r"(?m)^    (wellhead template build .*)$", (HOWTO / "wrenn.md").read_text("utf-8")
    )
    with hosted(home / ".wellhead", settings={"host_report_seconds": 1}) as edge, SandboxApi(edge) as api:
        shell(command, edge, home, BUILD_SECONDS)
        eventually(lambda: any(CODE_RUNNER in each["templates"] for each in api.ask("GET", "/hosts")), 30)
        yield edge


@pytest.mark.parametrize(
    ("version", "file", "deselected", "least"),
    [
        (OLD, "test_integration.py", (), 43),
        (NEW, "test_integration.py", (), 51),
        (NEW, "test_integration_advanced.py", INTERNET, 31),
        (NEW, "test_code_runner_e2e.py", PUBLIC_HOST, 44),
    ],
    ids=["older", "newer", "newer-advanced", "newer-code-runner"],
)
def test_the_sdks_own_live_tests_pass(
    server: Edge, tmp_path: Path, version: str, file: str, deselected: tuple[str, ...], least: int
) -> None:
    suite = wrenn(version).suite(file, server, tmp_path, deselected)
    assert not suite.failed, suite.text[-12000:] + server.text[-4000:]
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


def test_code_runs_by_the_older_sdks_interpreter(server: Edge, tmp_path: Path) -> None:
    said = wrenn(OLD).run(
        """
from wrenn.code_interpreter import Capsule
with Capsule(wait=True) as capsule:
    print(capsule.run_code("n = 20 + 22; n").text)
    print(capsule.run_code("print(n)").logs.stdout, capsule.run_code("1 / 0").error.name)
""",
        server,
        tmp_path,
    )
    assert said.splitlines() == ["42", "['42\\n'] ZeroDivisionError"]


def test_code_runs_where_ports_are_private_for_the_sdk_shows_its_key(server: Edge, tmp_path: Path) -> None:
    said = wrenn(NEW).run(
        """
import httpx, os
from wrenn.code_runner import Capsule
with Capsule(wait=True) as capsule:
    key = {"X-API-Key": os.environ["WRENN_API_KEY"]}
    record = f"{os.environ['WRENN_BASE_URL']}/v1/sandboxes/{capsule.capsule_id}"
    print(httpx.patch(record, json={"visibility": "private"}, headers=key).json()["visibility"])
    print(httpx.get(capsule.get_url(8888) + "/api/status").status_code)
    print(capsule.run_code("import os; [each for each in os.environ.values() if 'wh_' in each]").text)
""",
        server,
        tmp_path,
    )
    assert said.splitlines() == ["private", "401", "[]"]


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_server_of_ones_own_is_reached_at_the_url_of_its_port(
    server: Edge, tmp_path: Path, version: str
) -> None:
    said = wrenn(version).run(
        f"""
import httpx, httpx_ws, time
from wrenn import Capsule
with Capsule("{CODE_RUNNER}", wait=True) as capsule:
    capsule.files.write("server.py", {SERVER!r})
    capsule.commands.run("/opt/jupyter/bin/python ~/server.py", background=True)
    url = capsule.get_url(9000).replace("ws://", "http://")
    print(httpx.get(url + "/a%2Fb//c?d=1").json())  # at once: a server that comes up is waited for
    with httpx_ws.connect_ws(url.replace("http://", "ws://") + "/echo") as socket:
        socket.send_text("there and back")
        print(socket.receive_text(timeout=10))
""",
        server,
        tmp_path,
    )
    assert said.splitlines() == ["{'target': '/a%2Fb//c?d=1', 'key': None}", "there and back"]


@pytest.mark.parametrize(("version", "user"), [(OLD, "root"), (NEW, "wrenn-user")])
def test_the_program_of_the_page_runs(server: Edge, tmp_path: Path, version: str, user: str) -> None:
    (program,) = programs("wrenn.md")
    said = wrenn(version).run(program, server, tmp_path, tls=True)
    assert said.splitlines() == [f"hello from {user}", "text"]
