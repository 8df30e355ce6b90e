"""The host's API over one real guest, which runs as a process of this machine."""

from __future__ import annotations

import contextlib
import getpass
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from starlette.applications import Starlette
from websockets.frames import Close, Frame, Opcode

from tests.kit.inprocess import Host, Visit, asgi
from tests.kit.runtimes import FakeRuntime, FakeTemplates
from tests.kit.socket_client import SocketClient
from wellhead.guest.terms import GuestTerms
from wellhead.host.api.app import build
from wellhead.host.api.context import ApiTerms
from wellhead.host.asked import Asked
from wellhead.host.capacity import Capacity
from wellhead.host.metrics import Metrics
from wellhead.host.sandboxes import Sandboxes
from wellhead.host.table import Table
from wellhead.model.sandboxes import SandboxId, new_sandbox_id


@dataclass(frozen=True, slots=True)
class LiveGuest:
    """A guest that listens at ``path``; what it starts begins in ``home``."""

    path: Path
    home: Path
    process: subprocess.Popen[bytes]

    def runs(self, *argv: str) -> bool:
        """Whether such a program is among what it started, and what that did."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(child.cmdline())
        return list(argv) in found


@contextmanager
def live_guest() -> Iterator[LiveGuest]:
    """A guest that is killed, with all that it started, at the end."""
    with tempfile.TemporaryDirectory(prefix="wh", ignore_cleanup_errors=True) as directory:
        home = Path(directory) / "home"
        home.mkdir()
        terms = GuestTerms(getpass.getuser(), str(home), chrooted=False, isolated=False, no_new_privs=False)
        listening = socket.socket(socket.AF_UNIX)
        path = Path(directory) / "guest.sock"
        listening.bind(str(path))
        listening.listen(100)
        process = subprocess.Popen(
            [
                sys.executable, "-P", "-m", "wellhead.guest",
                "--socket", str(listening.fileno()), "--terms", terms.to_json(),
            ],
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        listening.close()
        try:
            yield LiveGuest(path, home, process)
        finally:
            process.terminate()
            process.wait(30)


class Talk:
    """A WebSocket of the API, as a visitor holds it."""

    def __init__(self, client: SocketClient) -> None:
        self.client = client

    @property
    def status(self) -> int:
        return self.client.visit.status

    def say(self, **members: object) -> None:
        self.client.say(json.dumps(members))

    def write(self, data: bytes) -> None:
        self.client.write(data)

    async def frame(self) -> Frame:
        return await self.client.frame()

    async def heard(self) -> Any:
        """The next message: bytes, or what JSON says. A Close is one of the type "closed"."""
        frame = await self.frame()
        if frame.opcode is Opcode.CLOSE:
            self.client.flush()  # the answer to it
            self.client.visit.send(end=True)
            close = Close.parse(frame.data)
            return {"type": "closed", "code": close.code}
        if frame.opcode is Opcode.BINARY:
            return bytes(frame.data)
        return json.loads(bytes(frame.data))

    async def until(self, *types: str) -> tuple[list[Any], Any]:
        """What was heard before a message of one of these types, and that."""
        before: list[Any] = []
        while not isinstance(message := await self.heard(), dict) or message["type"] not in types:
            assert not isinstance(message, dict) or message["type"] != "closed", before
            before.append(message)
        return before, message


class ApiHost:
    """``sandboxes``: of which there is one, ``id``."""

    def __init__(self, app: Starlette, sandboxes: Sandboxes, sandbox: SandboxId, host: Host) -> None:
        self.app = app
        self.sandboxes = sandboxes
        self.table = sandboxes.table
        self.id = sandbox
        self._host = host
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url=f"http://host/sandboxes/{sandbox}", timeout=60
        )

    async def post(self, path: str, /, **members: object) -> httpx.Response:
        return await self.http.post(path, json=members)

    async def exec(self, *argv: str, **members: object) -> Any:
        """A command's answer, which is to be 200."""
        answer = await self.post("/exec", argv=argv, **members)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def visit(self, head: bytes, data: bytes = b"", end: bool = True) -> Visit:
        """A request on a stream, as the edge opens one."""
        return self._host.open(head, data, end)

    async def idle(self) -> None:
        """Until nothing is answered on streams."""
        await self._host.idle(30)

    async def open(self, path: str, subprotocol: str = "", dialect: str = "standard") -> Talk:
        """A WebSocket; refused ones have a status other than 101."""
        fields = [("Wellhead-Dialect", dialect)]
        offered = [subprotocol] if subprotocol else None
        client = SocketClient(self._host, f"/sandboxes/{self.id}{path}", *fields, subprotocols=offered)
        await client.open()
        return Talk(client)


@asynccontextmanager
async def api_host(guest: LiveGuest, terms: ApiTerms | None = None, **asked: Any) -> AsyncIterator[ApiHost]:
    """The API with one sandbox, whose guest is this one; ``asked``: more of the sandbox."""
    with tempfile.TemporaryDirectory(prefix="wh") as directory:
        state, sandbox = Path(directory), new_sandbox_id()
        (state / f"{sandbox}.sock").symlink_to(guest.path)
        runtime = FakeRuntime(state)
        table = Table()
        room = Capacity(8, 4096, 10**6, 4)
        sandboxes = Sandboxes(table, runtime, FakeTemplates("minimal"), room, state)
        await sandboxes.create(Asked(sandbox, "minimal", **asked))
        app = build(table, Metrics(table, runtime), terms=terms)
        async with asgi(app) as host:
            made = ApiHost(app, sandboxes, sandbox, host)
            async with made.http:
                yield made
