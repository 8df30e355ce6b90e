"""The WebDAV tests of litmus, straight and through the tunnel, against two servers: with the same results."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.fronts import TLS
from tests.kit.outsiders import Outsider, wsgi_server
from tests.kit.programs import Program, eventually, listens
from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.timeout(120), pytest.mark.needs("litmus", "unshare")]

ALL = "basic copymove props locks http"
NGINX = """
daemon off;
master_process off;
pid {home}/pid;
error_log {home}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ root {home}/shared; dav_methods PUT DELETE MKCOL COPY MOVE; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(home: Path, port: int) -> Iterator[None]:
    """nginx as a WebDAV server: stricter than most about the authority in Destination."""
    (home / "shared").mkdir()
    config = home / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(user + NGINX.format(home=home, port=port))
    with Program(["nginx", "-p", str(home), "-c", str(config), "-e", str(home / "error.log")]):
        eventually(lambda: listens(port), 10)
        yield


def results(visitor: Outsider, url: str, suites: str) -> dict[str, str]:
    """``pass``, ``FAIL``, ``WARNING`` or ``SKIPPED`` by suite and name of the test."""
    found, suite = {}, ""
    said = visitor.run("litmus", "-k", f"{url}/", env={"TESTS": suites}, fine=False)
    for line in said.replace("\r", "\n").splitlines():
        if begins := re.match(r"-> running `(\w+)'", line):
            suite = begins[1]
        elif result := re.match(r" *(\d+)\. (\w+)\.+ .*?\b(pass|FAIL|WARNING|SKIPPED)", line):
            found[f"{suite} {result[1]} {result[2]}"] = result[3]
    return found


@pytest.mark.parametrize(
    ("server", "suites", "least"),
    [
        ("wsgidav", ALL, 90),
        pytest.param("nginx", "basic copymove http", 25, marks=pytest.mark.needs("nginx")),
    ],
)
def test_litmus_finds_no_difference(
    house: House, leg: str, tmp_path: Path, server: str, suites: str, least: int
) -> None:
    shared = tmp_path / "webdav"
    shared.mkdir()
    visitor = Outsider(house.edge, house.agent, tmp_path)
    serving = nginx(tmp_path, house.port) if server == "nginx" else wsgi_server("webdav", shared, house.port)
    with serving:
        straight = results(visitor, f"http://127.0.0.1:{house.port}", suites)
        through = results(visitor, house.agent.url if leg == TLS else house.agent.plain_url, suites)
    if leg == TLS:  # litmus leaves it out where there is TLS
        assert through.pop("http 2 expect100") == "SKIPPED" and straight.pop("http 2 expect100") == "pass"
    # A fragment in a target is refused by the edge; nginx deletes what is before it, of which litmus warns.
    assert through.pop("basic 9 delete_fragment") == "pass" and straight.pop("basic 9 delete_fragment")
    assert through == straight
    assert list(straight.values()).count("pass") >= least, straight
