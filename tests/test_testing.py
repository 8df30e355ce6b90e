"""The pytest plugin, in runs of pytest as a user's project has them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.kit.programs import environment

APPLICATIONS = """
import asyncio

import httpx
import pytest
import wellhead
from wellhead.errors import InputError

events = []

async def webhook(request, ctx):
    events.append(await request.json())
    return wellhead.Response(status=204)

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"wsgi"

def test_a_webhook(tunnel):
    url = tunnel(webhook)
    assert httpx.post(url + "/hook", json={"event": "paid"}).status_code == 204
    assert events == [{"event": "paid"}]

def test_applications_beside_one_another(tunnel):
    first, second = tunnel(asgi), tunnel(wsgi)
    assert (httpx.get(first).text, httpx.get(second).text) == ("http", "wsgi")

def test_tls(tunnel):
    url = tunnel(asgi, tls=True, name="my-app")
    assert url.startswith("https://my-app.localhost:")
    import ssl
    assert httpx.get(url, verify=ssl.create_default_context(cafile=tunnel.ca_file)).text == "https"

def test_what_is_no_application(tunnel):
    with pytest.raises(InputError):
        tunnel(object())

@pytest.mark.asyncio
async def test_in_a_running_loop(tunnel):
    url = await asyncio.to_thread(tunnel, asgi)
    async with httpx.AsyncClient() as visitor:
        assert (await visitor.get(url)).text == "http"
        assert (await visitor.get(tunnel(asgi))).text == "http"  # the loop waits so long, and no longer

def test_a_failing_test_closes_its_tunnels_too(tunnel):
    tunnel(asgi)
    assert tunnel.listeners[0].status.name == "CONNECTED"
    global left
    left = tunnel.listeners[0]
    raise ArithmeticError("on purpose")

def test_then():
    assert left.status.name == "CLOSED"
"""

SERVERS = """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_which_server(wellhead_server, number):
    pathlib.Path(f"{os.environ['PYTEST_XDIST_WORKER']}-{number}").write_text(wellhead_server.api)
"""

UNUSED = """
import sys

def test_nothing_is_loaded():
    ours = {name for name in sys.modules if name.startswith("wellhead")}
    assert ours <= {"wellhead", "wellhead.errors", "wellhead.version", "wellhead.testing"}
    assert not {"uvloop", "fastapi", "sqlalchemy", "starlette"} & set(sys.modules)
"""


def _pytest(project: Path, source: str, *flags: str) -> str:
    """Run it as a project's tests where there is no profile of ours; gives what it told."""
    (project / "test_theirs.py").write_text(source)
    (project / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    plugins = ["xdist", "pytest_asyncio.plugin", "wellhead.testing"]
    env = environment(
        project / "none", HOME=str(project), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS=""
    )
    env.pop("WELLHEAD_HOME")
    for name in [name for name in env if name.startswith("PYTEST_XDIST")]:
        del env[name]
    named = [word for plugin in plugins for word in ("-p", plugin)]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *named, *flags],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.stdout + ended.stderr


def test_applications_have_urls_for_a_test_and_no_longer(tmp_path: Path) -> None:
    told = _pytest(tmp_path, APPLICATIONS)
    assert re.search(r"^1 failed, 6 passed in ", told, re.MULTILINE), told
    assert "ArithmeticError: on purpose" in told
    assert not (tmp_path / ".wellhead").exists()  # the profile of whoever runs them is left alone


def test_each_worker_has_a_server_of_its_own(tmp_path: Path) -> None:
    told = _pytest(tmp_path, SERVERS, "-n", "2")
    assert re.search(r"^4 passed in ", told, re.MULTILINE), told
    servers = {(path.name.split("-")[0], path.read_text()) for path in tmp_path.glob("gw*-*")}
    workers = {worker for worker, _ in servers}
    assert len(servers) == len(workers) == len({api for _, api in servers})


def test_who_does_not_use_it_loads_nothing_of_it(tmp_path: Path) -> None:
    assert "1 passed" in _pytest(tmp_path, UNUSED)
