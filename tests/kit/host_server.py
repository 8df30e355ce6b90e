"""A server as a host sees it: an edge that takes its sessions, and a control plane that takes its reports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.kit.small_apps import running
from wellhead.host.membership import Membership
from wellhead.model.access import Secret
from wellhead.model.sandboxes import HostId
from wellhead.net.authority import LocalAuthority
from wellhead.net.session import Session
from wellhead.net.tls import ALPN_MUX
from wellhead.wire.frames import Kind
from wellhead.wire.messages import Hello, Refused, Welcome
from wellhead.wire.mux import MuxStream, Role
from wellhead.wire.streams import Buffer, StreamKind

PATIENCE = 20.0
LOOK_SECONDS = 0.05  # for what does not show in what the server is told
HOST = HostId("host-" + "0" * 24 + "1")
Answer = tuple[int, dict[str, Any]]


@dataclass
class HostServer:
    """``answers``: to reports, one each, the last for ever. ``refuses``: what hellos are met with."""

    rest: int
    edge: int
    ca_file: Path
    loop: asyncio.AbstractEventLoop
    answers: list[Answer] = field(default_factory=lambda: [(200, {"destroy": []})])
    joins: list[dict[str, Any]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)  # of every request
    hellos: list[Hello] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    refuses: str = ""
    join_answer: Answer = (201, {"host_id": HOST, "key": "wh_key"})
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest}"

    def membership(self) -> Membership:
        return Membership(self.url, f"localhost:{self.edge}", HOST, Secret("wh_key"), self.ca_file)

    async def until(self, true: Callable[[], Any]) -> Any:
        """What ``true()`` gives, once it is something."""
        async with asyncio.timeout(PATIENCE):
            while not (found := true()):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self.changed.wait()
                self.changed.clear()
        return found

    def told(self, sandbox: str) -> list[str]:
        """The statuses of a sandbox in all reports, each once in a row."""
        found: list[str] = []
        for report in self.reports:
            found += [each["status"] for each in report["sandboxes"] if each["id"] == sandbox]
        return [status for number, status in enumerate(found) if number == 0 or found[number - 1] != status]

    # From the host

    def take(self, path: str, key: str | None, body: dict[str, Any]) -> Answer:
        self.keys.add(key)
        if path == "/api/v1/hosts/join":
            self.joins.append(body)
            return self.join_answer
        assert path == f"/api/v1/hosts/{HOST}/report"
        self.reports.append(body)
        self.loop.call_soon_threadsafe(self.changed.set)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def control(self, session: Session, kind: int, payload: bytes) -> None:
        assert kind == Kind.HELLO
        hello = Hello.decode(payload)
        self.hellos.append(hello)
        self.sessions.append(session)
        if self.refuses:
            session.mux.control(Kind.REFUSED, Refused(self.refuses, "no").encode())
            session.close()
        else:
            session.mux.start(hello.window)
            welcome = Welcome(session="s_1", tunnel_id=HOST, name=HOST)
            session.mux.control(Kind.WELCOME, welcome.encode())
        self.changed.set()


@contextlib.asynccontextmanager
async def host_server(ca: LocalAuthority) -> AsyncIterator[HostServer]:
    loop = asyncio.get_running_loop()
    server = HostServer(0, 0, ca.ca_file, loop)
    live: set[Session] = set()

    def made() -> Session:
        session = Session(
            Role.ACCEPTOR, on_open=_no_stream, on_control=server.control,
            on_lost=lambda session, error: live.discard(session),
        )  # fmt: skip
        live.add(session)
        return session

    edge = await loop.create_server(made, "127.0.0.1", 0, ssl=ca.leaf_context("localhost", [ALPN_MUX]))
    server.edge = edge.sockets[0].getsockname()[1]
    try:
        with ThreadingHTTPServer(("127.0.0.1", 0), _rest(server)) as rest, running(rest):
            server.rest = rest.server_port
            yield server
    finally:
        edge.close()
        for session in list(live):
            session.abort()


def _no_stream(stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
    raise AssertionError("a host opened a stream")


def _rest(server: HostServer) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Rest(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                status, answer = server.take(self.path, self.headers["X-API-Key"], body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *arguments: object) -> None: ...

    return Rest
