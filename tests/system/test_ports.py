"""Ports of sandboxes through a whole server: paused ones that requests resume, and a server half away."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.kit import port_app
from tests.kit.harbour import PORT, Harbour, harbouring
from tests.kit.hosted import NEEDED
from tests.kit.stopwatch import Stopwatch
from tests.kit.visitors import Reply, ask, request, visiting
from tests.system.test_control_process import away
from wellhead.model.sandboxes import new_sandbox_id

pytestmark = [*NEEDED, pytest.mark.timeout(120)]

SECONDS = 30.0
CHANGE_SECONDS = 1.0


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    with harbouring(
        tmp_path_factory.mktemp("ports") / ".wellhead", settings={"access_log": "stderr"}
    ) as made:
        yield made


@pytest.fixture
def sandbox(harbour: Harbour) -> str:
    """One with an application, which is resumed for who asks for it."""
    return begun(harbour, harbour.api.create(auto_resume=True))


def begun(harbour: Harbour, sandbox: str) -> str:
    """Start the application, and do not wait for it: a request does that."""
    script = base64.b64encode(Path(port_app.__file__).read_bytes()).decode()
    harbour.api.run(sandbox, "sh", "-c", f"echo {script} | base64 -d > /tmp/app.py")
    argv = ["/usr/bin/python3", "/tmp/app.py", str(PORT)]
    harbour.api.ask("POST", f"/sandboxes/{sandbox}/exec", 202, json={"argv": argv, "background": True})
    return sandbox


async def paused(harbour: Harbour, sandbox: str) -> None:
    await asyncio.to_thread(harbour.api.ask, "POST", f"/sandboxes/{sandbox}/pause")
    assert harbour.api.status(sandbox) == "paused"


@contextlib.asynccontextmanager
async def talking(harbour: Harbour, sandbox: str) -> AsyncIterator[ClientConnection]:
    name = harbour.hostname(sandbox=sandbox)
    async with connect(
        f"wss://{name}:{harbour.edge.https}/ws", host="127.0.0.1", ssl=harbour.edge.trust(), proxy=None,
        open_timeout=SECONDS, close_timeout=1, compression=None,
    ) as client:  # fmt: skip
        await client.send("hello")
        async with asyncio.timeout(SECONDS):
            assert await client.recv() == "hello"
        yield client


def told(reply: Reply) -> dict[str, Any]:
    """What the application says of a request."""
    assert reply.status == 200, (reply.status, reply.body)
    found: dict[str, Any] = json.loads(reply.body)
    return found


def reason(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)["reason"]


async def test_the_access_line_says_which_port_it_was_and_what_it_came_to(harbour: Harbour) -> None:
    name, mark = harbour.hostname(), harbour.edge.mark()
    assert reason(await ask(harbour.edge, name, "/x")) == (502, "port-closed")
    asked = f" access port={name.partition('.')[0]} peer=127.0.0.1 method=GET target=/x status=502 "
    assert harbour.edge.line(asked, after=mark).string.endswith(" reason=port-closed")


async def test_requests_resume_a_sandbox_that_says_so(harbour: Harbour, sandbox: str) -> None:
    name = harbour.hostname(sandbox=sandbox)
    for target in ("/echo/once", "/echo/again"):
        await paused(harbour, sandbox)
        replies = await asyncio.gather(*(ask(harbour.edge, name, f"{target}/{at}") for at in range(5)))
        assert [told(reply)["target"] for reply in replies] == [f"{target}/{at}" for at in range(5)]
        assert harbour.api.status(sandbox) == "running"


async def test_an_upload_waits_with_its_request(harbour: Harbour, sandbox: str, tmp_path: Path) -> None:
    """Over HTTP/2, more than a window of it."""
    body = random.Random(9).randbytes(3_000_000)
    (tmp_path / "body").write_bytes(body)
    where = f"{harbour.hostname(sandbox=sandbox)}:{harbour.edge.https}"
    await paused(harbour, sandbox)
    done = await asyncio.to_thread(
        subprocess.run,
        ["curl", "-sS", "--http2", "--resolve", f"{where}:127.0.0.1", "--cacert", str(harbour.edge.ca), "-w",
         "\n%{http_version}", "--data-binary", f"@{tmp_path / 'body'}", f"https://{where}/echo"],
        capture_output=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    answer, version = done.stdout.decode().split("\n")
    seen = json.loads(answer)
    assert (version, seen["size"], seen["sha256"]) == ("2", len(body), hashlib.sha256(body).hexdigest())


async def test_a_websocket_resumes_too_and_is_closed_when_its_sandbox_ends(
    harbour: Harbour, sandbox: str
) -> None:
    await paused(harbour, sandbox)
    async with talking(harbour, sandbox) as client:
        assert harbour.api.status(sandbox) == "running"
        await asyncio.to_thread(harbour.api.ask, "DELETE", f"/sandboxes/{sandbox}", 204)
        watch = Stopwatch(harbour.edge)
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(SECONDS):
                await client.recv()
        assert watch.seconds() < CHANGE_SECONDS
        assert (client.close_code, client.close_reason) == (1001, "removed")


async def test_who_may_not_see_a_port_resumes_nothing(harbour: Harbour, sandbox: str) -> None:
    await asyncio.to_thread(harbour.api.ask, "PATCH", f"/sandboxes/{sandbox}", json={"visibility": "private"})
    await paused(harbour, sandbox)
    name = harbour.hostname(sandbox=sandbox)
    assert reason(await ask(harbour.edge, name)) == (401, "port-key")
    assert harbour.api.status(sandbox) == "paused"
    assert (await ask(harbour.edge, name, "/echo", f"X-API-Key: {harbour.edge.key}")).status == 200


async def test_without_a_control_plane_known_ports_are_served_and_who_waits_is_heard_by_the_next(
    harbour: Harbour, sandbox: str
) -> None:
    asleep = await asyncio.to_thread(begun, harbour, harbour.api.create(auto_resume=True))
    name = harbour.hostname(sandbox=sandbox)
    assert (await ask(harbour.edge, name, "/echo")).status == 200
    await paused(harbour, asleep)
    with away(harbour.edge):
        assert (await ask(harbour.edge, name, "/echo")).status == 200
        unknown = harbour.hostname(sandbox=new_sandbox_id())
        assert reason(await ask(harbour.edge, unknown)) == (503, "records-away")
        waiting = asyncio.ensure_future(resumed(harbour, asleep))
        await asyncio.sleep(0)
    assert (await waiting).status == 200


async def resumed(harbour: Harbour, sandbox: str) -> Reply:
    """The answer to a request that waits, longer than visitors of tests do, for a sandbox."""
    name = harbour.hostname(sandbox=sandbox)
    async with visiting(harbour.edge, name) as visitor:
        await visitor.send(request("/echo", name))
        async with asyncio.timeout(SECONDS):
            await visitor.reader.readuntil(b"HTTP/1.1 ")
            return Reply(int(await visitor.reader.readexactly(3)), [])
