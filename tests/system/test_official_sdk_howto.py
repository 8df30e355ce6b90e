"""The page for who comes from Inkbox: its commands and its programs, as they are written there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.kit.machine import NEEDED, Machine, namespaces
from tests.kit.programs import eventually
from tests.kit.sdks import NEW, OLD, sdk
from tests.system.test_howto import programs
from tests.system.test_howto_machine import app, read

pytestmark = NEEDED

MAKE, URL, OLDER_URL, INSIDE, OLDER_SEALED, SEALED = programs("inkbox.md")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A user's machine with the page's server on it, and a local app."""
    directory = tmp_path_factory.mktemp("user")
    with namespaces(directory) as holder:
        machine = Machine(directory, holder)
        with machine.start("wellhead up --zone 127.0.0.77 --https 127.0.0.77:443") as edge:
            edge.line("^ready ")
            machine.variables |= {
                "SSL_CERT_FILE": str(machine.home / "server" / "ca.pem"),
                "INKBOX_BASE_URL": "https://127.0.0.77",
                "INKBOX_API_KEY": (machine.home / "server" / "admin-key").read_text().strip(),
            }
            with app(machine, "local", "127.0.0.1:8000"):
                yield machine


def written(machine: Machine, version: str, program: str) -> str:
    """The command that runs a program of the page."""
    file = machine.directory / f"program-{len(list(machine.directory.glob('program-*')))}.py"
    file.write_text(program)
    return f"{sdk(version).python} -E {file}"


@contextmanager
def online(machine: Machine, version: str, program: str) -> Iterator[str]:
    """It runs, and a visitor gets something; by its hostname."""
    with machine.start(written(machine, version, program)) as agent:
        hostname = agent.line(r"^https://(\S+)$")[1]
        eventually(lambda: visit(machine, hostname), 20)
        yield hostname


def visit(machine: Machine, hostname: str) -> str:
    """What curl prints; "" where it fails."""
    where = f"--connect-to {hostname}:443:127.0.0.77:443 https://{hostname}/"
    done = machine.run(f"curl -sS --fail --max-time 10 --cacert $SSL_CERT_FILE {where}")
    return done.stdout


def converse(machine: Machine, hostname: str) -> str:
    """What a WebSocket client is answered."""
    file = machine.directory / "visitor.py"
    file.write_text(
        "import socket, ssl\n"
        "from websockets.sync.client import connect\n"
        "sock = socket.create_connection(('127.0.0.77', 443))\n"
        f"with connect('wss://{hostname}/', sock=sock, ssl=ssl.create_default_context()) as client:\n"
        "    client.send('hi')\n"
        "    print(client.recv(10))\n"
    )
    return machine.out(f"{sys.executable} {file}").strip()


def test_a_program_of_a_newer_sdk_forwards_and_our_agent_takes_its_place(machine: Machine) -> None:
    with read("inkbox") as page:
        page.take("wellhead up --zone 127.0.0.77 --https 127.0.0.77:443")
        machine.out(written(machine, NEW, MAKE))
        with online(machine, NEW, URL) as hostname:
            assert visit(machine, hostname) == "local saw 127.0.0.1:8000\n"
        assert "wh_" in machine.out(page.take('wellhead keys create "my app" --scope tunnel:my-app'))
        page.take("wellhead tunnels restore")
        with machine.start(page.take("wellhead http 8000 --name my-app")) as agent:
            agent.line("^connected$")
            assert visit(machine, hostname) == "local saw localhost:8000\n"


def test_a_program_of_the_older_sdk_forwards(machine: Machine) -> None:
    with online(machine, OLD, OLDER_URL) as hostname:
        assert visit(machine, hostname) == "local saw 127.0.0.1:8000\n"
    assert (machine.directory / ".inkbox" / "tunnels" / "my-older-app" / "state.json").exists()


@pytest.mark.parametrize("version", [OLD, NEW])
def test_an_application_inside_answers_requests_and_websockets(machine: Machine, version: str) -> None:
    name = f"my-app-{version.replace('.', '-')}"
    if version == NEW:
        machine.out(written(machine, NEW, MAKE.replace("my-app", name)))
    with online(machine, version, INSIDE.replace("my-app", name)) as hostname:
        assert visit(machine, hostname) == "hello from inside"
        assert converse(machine, hostname) == "you said hi"


@pytest.mark.parametrize(("version", "program"), [(OLD, OLDER_SEALED), (NEW, SEALED)])
def test_tls_ends_in_the_program(machine: Machine, version: str, program: str) -> None:
    with online(machine, version, program) as hostname:
        assert visit(machine, hostname) == "local saw 127.0.0.1:8000\n"
