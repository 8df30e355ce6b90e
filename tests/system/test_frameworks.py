"""Applications of the usual frameworks, given to ``connect`` as they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.kit.framework_apps import APPS, EVENTS, ROOMS
from tests.kit.programs import eventually
from wellhead.serve import Ready
from wellhead.testing import Tunnels, wellhead_server  # noqa: F401

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def urls(wellhead_server: Ready, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:  # noqa: F811
    """Each framework's site, all in one program."""
    tunnels = Tunnels(wellhead_server, Path(tmp_path_factory.mktemp("frameworks")))
    try:
        yield {name: tunnels(make(), name=f"app-{name}") for name, make in APPS.items()}
    finally:
        tunnels.close()


@pytest.fixture(params=APPS)
def url(request: pytest.FixtureRequest, urls: dict[str, str]) -> str:
    return urls[request.param]


def test_an_upload_arrives_whole(url: str) -> None:
    content = os.urandom(3 << 20)
    reply = httpx.post(url + "/upload", files={"file": ("ä.bin", content)})
    assert reply.status_code == 200, reply.text
    assert reply.json() == {"name": "ä.bin", "digest": hashlib.sha256(content).hexdigest()}


def test_events_stream(url: str) -> None:
    with httpx.stream("GET", url + "/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert "".join(reply.iter_text()) == "".join(EVENTS)


def test_work_goes_on_behind_the_reply(url: str) -> None:
    assert httpx.post(url + "/job").status_code == 202
    assert eventually(lambda: "done" in httpx.get(url + "/job").json(), 10)


def test_cookies_stay_apart(url: str) -> None:
    reply = httpx.get(url + "/cookies")
    assert [line.partition(";")[0] for line in reply.headers.get_list("set-cookie")] == ["a=1", "b=2"]


def test_an_unknown_page_is_the_frameworks_own_404(url: str) -> None:
    reply = httpx.get(url + "/nothing/here")
    assert reply.status_code == 404


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_of_websockets(urls: dict[str, str], name: str) -> None:
    address = urls[name].replace("http://", "ws://") + "/room"
    with connect(address) as one, connect(address) as two:
        one.send("to all")
        assert one.recv(timeout=10) == two.recv(timeout=10) == "to all"
        two.send("back")
        assert one.recv(timeout=10) == two.recv(timeout=10) == "back"
