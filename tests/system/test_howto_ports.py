"""The page of sandboxes' ports, as a reader does it, in sandboxes that are really isolated.

Its commands name ports of the machine, and its programs look up names under localhost: both are had in
namespaces.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets

from tests.kit import name_server
from tests.kit.machine import NEEDED, Machine, namespaces
from tests.system.test_howto import HOWTO, programs

PAGE = "ports.md"
UP = "wellhead up --with-host"
SETTINGS = "WELLHEAD_HOST_EGRESS=none WELLHEAD_HOST_KEEP_SANDBOXES=false"
RESOLVED = """
file=$(readlink -m /etc/resolv.conf)
mkdir -p "${file%/*}"
[ -e "$file" ] || touch "$file"
echo 'nameserver 127.0.0.1' > resolv.conf
mount --bind resolv.conf "$file"
"""
ECHO = """
from websockets.sync.server import serve
serve(lambda socket: [socket.send(message) for message in socket], "127.0.0.1", 8765).serve_forever()
"""

pytestmark = [pytest.mark.timeout(240), *NEEDED]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("user")
    with namespaces(directory) as holder:
        machine = Machine(directory, holder)
        machine.out(RESOLVED)
        names = machine.start(f"{sys.executable} {name_server.__file__} '*.localhost=127.0.0.1'")
        with names, machine.start(f"{SETTINGS} {UP}") as server:
            names.line("^serving$")
            server.line("^sandbox ports are public: ")
            server.line("^ready ", 90)
            yield machine


@pytest.fixture(scope="module")
def done(machine: Machine) -> str:
    """What the commands of the page print."""
    prose = re.sub(r"^```.*?^```$", "", (HOWTO / PAGE).read_text("utf-8"), flags=re.M | re.S)
    lines = re.findall(r"^ {4}(\S.*)$", prose, re.M)
    lines.remove(UP)
    return machine.out("\n".join(["set -ux", *lines, "echo $ID > id"]), 110)


def test_the_commands_of_the_page(done: str) -> None:
    listings = done.count("<title>Directory listing for")
    assert listings == 5, done  # by its URL, without TLS, by a link, with a key, and when it is woken
    assert re.search(r"^8000 +127\.0\.0\.1 +python3\b.* public +https://8000-cl-", done, re.M)
    assert re.search(r"^ports +private, but 3000 team, 8000 private$", done, re.M)
    assert "every link to cl-" in done and done.rstrip().endswith("running")


def test_the_programs_of_the_page(done: str, machine: Machine) -> None:
    first, second = programs(PAGE)
    (machine.directory / "first.py").write_text(first)
    (machine.directory / "second.py").write_text(second)
    key = "export WELLHEAD_API_KEY=$(cat ~/.wellhead/server/admin-key) ID=$(cat id); "
    said = machine.out(f"{key} python first.py").splitlines()
    assert said[0] == "hello"
    assert re.fullmatch(r"8000 python3 private https://8000-cl-\w+\.localhost:8443", said[1])
    assert re.fullmatch(r"https://8000-cl-\w+\.localhost:8443/\?wellhead_link=\S+ \d{4}-.*", said[2])
    (machine.directory / "echo.py").write_text(ECHO)
    for path in ("echo.py", Path(websockets.__file__).parent):
        machine.out(f"{key} wellhead sandbox cp {path} $ID:.")
    machine.out(f"{key} wellhead sandbox exec --detach $ID -- python3 echo.py")
    assert machine.out(f"{key} python second.py") == "hello\n"
