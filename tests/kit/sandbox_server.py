"""A server of sandboxes as a client sees it, in this process: records, commands, files, terminals.

Commands are real processes; files are those of a directory. A terminal echoes what is typed, ends at
Ctrl-D, and keeps the last ``kept`` bytes; a test can write to it, and cut every connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal as signals
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.kit import certs
from tests.kit.asgi import served
from wellhead.model.access import Secret
from wellhead.model.sandboxes import new_host_id, new_sandbox_id

KEY = Secret("wh_sandboxes")
NOW = "2026-01-31T12:00:00Z"
HTTP_PORT = {"port": 8000, "address": "127.0.0.1", "pid": 12, "command": "python3"} | {
    "argv": ["python3", "-m", "http.server"],
    "user": "wrenn-user",
}
ORGANIZATION = "6d6b1a52-7a35-4d0c-8f6e-0b9a3c2d1e4f"


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.message = status, code, message


def not_found(what: str) -> Refusal:
    return Refusal(404, "not_found", f"{what} is not there")


class Screen:
    """A terminal that is there: all that it wrote, and who looks at it."""

    def __init__(self, tag: str, columns: int, rows: int, kept: int) -> None:
        self.tag, self.size, self.kept = tag, (columns, rows), kept
        self.pid = 4242
        self.output = bytearray()
        self.typed = bytearray()
        self.sizes: list[tuple[int, int]] = []
        self.exit: tuple[int | None, int | None] | None = None
        self.started: dict[str, Any] = {}
        self.news = asyncio.Condition()

    @property
    def oldest(self) -> int:
        return max(0, len(self.output) - self.kept)

    async def write(self, data: bytes) -> None:
        async with self.news:
            self.output += data
            self.news.notify_all()

    async def end(self, code: int | None, signal: int | None = None) -> None:
        async with self.news:
            self.exit = code, signal
            self.news.notify_all()

    async def type(self, data: bytes) -> None:
        self.typed += data
        if data == b"\x04":
            await self.end(7)
        else:
            await self.write(data)


class Kept:
    """A background process: its output in order, of one channel each piece."""

    def __init__(self, tag: str, process: asyncio.subprocess.Process, argv: list[str]) -> None:
        self.tag, self.process, self.argv = tag, process, argv
        self.pieces: list[tuple[int, bytes]] = []
        self.news = asyncio.Condition()
        self.over = False


class Sandboxed:
    """One sandbox."""

    def __init__(self, root: Path, wanted: dict[str, Any]) -> None:
        self.root = root
        self.root.mkdir()
        self.record: dict[str, Any] = {
            "id": new_sandbox_id(),
            "status": "running",
            "template": wanted.get("template", "minimal-ubuntu"),
            "vcpus": wanted.get("vcpus", 1),
            "memory_mb": wanted.get("memory_mb", 512),
            "disk_size_mb": wanted.get("disk_size_mb", 5120),
            "timeout_sec": wanted.get("timeout_sec", 0),
            "metadata": wanted.get("metadata") or {},
            "organization_id": ORGANIZATION,
            "created_at": NOW,
            "last_updated": NOW,
            "last_active_at": NOW,
            "visibility": wanted.get("visibility", "private"),
            "port_visibility": wanted.get("port_visibility", {}),
            "auto_resume": wanted.get("auto_resume", False),
        }
        self.record["url"] = f"https://{{port}}-{self.record['id']}.localhost:8443"
        self.record["plain_url"] = f"http://{{port}}-{self.record['id']}.localhost:8080"
        self.env: dict[str, str] = {"PATH": "/usr/bin:/bin", "HOME": str(root)} | wanted.get("envs", {})
        self.screens: dict[str, Screen] = {}
        self.background: dict[str, Kept] = {}
        self.running: dict[int, list[str]] = {}
        self.ports = [HTTP_PORT]
        self.is_host_away = False  # what listens is not told then
        self.links = 0  # how often all of them were voided

    def path(self, given: str) -> Path:
        return self.root / given.removeprefix("~").strip("/")

    def entry(self, path: Path) -> dict[str, Any]:
        try:
            facts = path.lstat()
        except OSError:
            raise not_found(str(path)) from None
        kind = "symlink" if path.is_symlink() else "directory" if path.is_dir() else "file"
        if path.exists() and not path.is_file() and not path.is_dir():
            kind = "other"
        return {
            "name": path.name,
            "path": "/" + str(path.relative_to(self.root)),
            "type": kind,
            "size": facts.st_size,
            "mode": facts.st_mode & 0o7777,
            "owner": "root",
            "group": "root",
            "modified_at": int(facts.st_mtime),
            "symlink_target": str(path.readlink()) if kind == "symlink" else None,
        }


class SandboxServer:
    """The application, and what a test may do to it. ``run`` does something in its loop."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.kept = 1024 * 1024
        self.sandboxes: dict[str, Sandboxed] = {}
        self.hosts: dict[str, dict[str, Any]] = {}
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.sockets: set[WebSocket] = set()
        self.refusal: Refusal | None = None  # what everything is answered with
        self.loop: asyncio.AbstractEventLoop | None = None
        self.app: ASGIApp = _Told(self, Router(routes=list(self._routes())))

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(10)

    async def cut(self) -> None:
        """End every WebSocket, as an edge that goes away does."""
        for socket in list(self.sockets):
            with contextlib.suppress(Exception):  # it went by itself meanwhile
                await socket.close(1012)

    def screen(self, tag: str) -> Screen:
        return next(one.screens[tag] for one in self.sandboxes.values() if tag in one.screens)

    def _routes(self) -> Iterator[BaseRoute]:
        one = "/api/v1/sandboxes/{id}"

        def route(path: str, method: str, answer: Callable[[Request], Any]) -> Route:
            return Route(path, answer, methods=[method])

        yield route("/api/v1/sandboxes", "POST", self._create)
        yield route("/api/v1/sandboxes", "GET", self._list)
        yield route(one, "GET", self._get)
        yield route(one, "PATCH", self._update)
        yield route(one, "DELETE", self._destroy)
        yield route(one + "/links", "POST", self._share)
        yield route(one + "/links", "DELETE", self._void)
        yield route(one + "/{verb:str}", "POST", self._change)
        yield route(one + "/{what:str}", "GET", self._facts)
        yield route(one + "/processes/{selector}", "DELETE", self._signal)
        yield route(one + "/files/stream/write", "PUT", self._write)
        yield route(one + "/files/{verb:path}", "POST", self._files)
        yield WebSocketRoute(one + "/exec/stream", self._exec)
        yield WebSocketRoute(one + "/processes/{selector}/stream", self._attach)
        yield WebSocketRoute(one + "/pty", self._pty)
        yield route("/api/v1/snapshots", "POST", self._snapshot)
        yield route("/api/v1/snapshots", "GET", self._list_snapshots)
        yield route("/api/v1/snapshots/{name}", "DELETE", self._delete_snapshot)
        yield route("/api/v1/hosts", "POST", self._create_host)
        yield route("/api/v1/hosts", "GET", self._list_hosts)
        yield route("/api/v1/hosts/{id}", "GET", self._get_host)
        yield route("/api/v1/hosts/{id}", "PATCH", self._drain_host)
        yield route("/api/v1/hosts/{id}", "DELETE", self._delete_host)

    def one(self, given: Request | WebSocket, *, running: bool = True) -> Sandboxed:
        found = self.sandboxes.get(given.path_params["id"])
        if found is None:
            raise not_found("the sandbox")
        if running and found.record["status"] != "running":
            raise Refusal(409, "invalid_state", f"the sandbox is {found.record['status']}")
        return found

    async def _create(self, request: Request) -> Response:
        wanted = json.loads(await request.body() or b"{}")
        if wanted.get("template") == "no-such":
            raise not_found("template no-such")
        made = Sandboxed(self.home / secrets.token_hex(4), wanted)
        self.sandboxes[made.record["id"]] = made
        return JSONResponse(made.record, 201)

    async def _list(self, request: Request) -> Response:
        records = [one.record for one in self.sandboxes.values()][::-1]
        wanted = request.query_params.get("status")
        return JSONResponse([r for r in records if r["status"] == (wanted or r["status"]) != "stopped"])

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self.one(request, running=False).record)

    async def _update(self, request: Request) -> Response:
        found, asked = self.one(request, running=False), await request.json()
        of_ports = found.record["port_visibility"] | asked.pop("port_visibility", {})
        found.record |= asked
        found.record["port_visibility"] = {number: word for number, word in of_ports.items() if word}
        return JSONResponse(found.record)

    async def _share(self, request: Request) -> Response:
        found, asked = self.one(request, running=False), await request.json()
        port, seconds = asked.get("port"), asked.get("expires_in", 3600)
        if not 0 < seconds <= 2592000:
            raise Refusal(422, "invalid", f"expires_in must be 1 to 2592000, not {seconds}")
        url = found.record["url"].replace("{port}", str(port or "{port}"))
        ends = (datetime.fromisoformat(NOW) + timedelta(seconds=seconds)).isoformat()
        told = {"url": f"{url}/?wellhead_link=EXAMPLE{found.links}", "port": port, "expires_at": ends}
        return JSONResponse(told, 201)

    async def _void(self, request: Request) -> Response:
        self.one(request, running=False).links += 1
        return Response(status_code=204)

    async def _destroy(self, request: Request) -> Response:
        found = self.one(request, running=False)
        found.record["status"] = "stopped"
        for kept in found.background.values():
            _signal(kept.process, signals.SIGKILL)
        return Response(status_code=204)

    async def _change(self, request: Request) -> Response:
        match request.path_params["verb"]:
            case "exec":
                return await self._exec_at_once(request)
            case "ping":
                self.one(request).record["last_active_at"] = datetime.now(UTC).isoformat()
                return Response(status_code=204)
            case "pause":
                found = self.one(request)
                found.record["status"] = "paused"
            case "resume":
                found = self.one(request, running=False)
                if found.record["status"] != "paused":
                    raise Refusal(409, "invalid_state", f"the sandbox is {found.record['status']}")
                found.record["status"] = "running"
            case other:
                raise not_found(other)
        return JSONResponse(found.record)

    async def _facts(self, request: Request) -> Response:
        found = self.one(request)
        match request.path_params["what"]:
            case "processes":
                return JSONResponse({"processes": list(self._processes(found))})
            case "ports" if found.is_host_away:
                raise Refusal(503, "host_unavailable", "the host of this sandbox is not connected")
            case "ports":
                return JSONResponse({"ports": found.ports})
            case "metrics":
                point = {"timestamp_unix": 1769860800, "cpu_pct": 1.5, "mem_bytes": 4096, "disk_bytes": 0}
                return JSONResponse({"range": request.query_params["range"], "points": [point]})
            case other:
                raise not_found(other)

    def _processes(self, found: Sandboxed) -> Iterator[dict[str, Any]]:
        for pid, argv in found.running.items():
            yield {"pid": pid, "cmd": argv[0], "args": argv[1:], "kind": "exec", "started_at": 1769860800}
        for kept in found.background.values():
            if kept.process.returncode is None:
                argv = kept.argv
                yield {"pid": kept.process.pid, "tag": kept.tag, "cmd": argv[0], "args": argv[1:]} | {
                    "kind": "background",
                    "user": "root",
                    "started_at": 1769860800.5,
                }
        for screen in found.screens.values():
            if screen.exit is None:
                yield {"pid": screen.pid, "tag": screen.tag, "cmd": "/bin/bash", "kind": "terminal"}

    async def _signal(self, request: Request) -> Response:
        found, selector = self.one(request), request.path_params["selector"]
        number = getattr(signals, request.query_params["signal"])
        for kept in found.background.values():
            if selector in (kept.tag, str(kept.process.pid)) and kept.process.returncode is None:
                _signal(kept.process, number)
                return Response(status_code=204)
        raise not_found(f"process {selector}")

    async def _exec_at_once(self, request: Request) -> Response:
        found, asked = self.one(request), await request.json()
        process = await self._spawn(found, asked, background=asked.get("background", False))
        if not asked.get("background"):
            stdout, stderr = await process.communicate()
            return JSONResponse(
                {"stdout": stdout.decode(), "stderr": stderr.decode(), "exit_code": process.returncode}
            )
        tag = asked.get("tag") or f"proc-{secrets.token_hex(4)}"
        kept = found.background[tag] = Kept(tag, process, asked["argv"])
        kept_task = asyncio.create_task(self._keep(kept))
        kept_task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return JSONResponse({"pid": process.pid, "tag": tag}, 202)

    async def _keep(self, kept: Kept) -> None:
        async def read(channel: int, stream: asyncio.StreamReader | None) -> None:
            assert stream is not None
            while data := await stream.read(65536):
                async with kept.news:
                    kept.pieces.append((channel, data))
                    kept.news.notify_all()

        await asyncio.gather(read(1, kept.process.stdout), read(2, kept.process.stderr))
        await kept.process.wait()
        async with kept.news:
            kept.over = True
            kept.news.notify_all()

    async def _spawn(
        self, found: Sandboxed, asked: dict[str, Any], *, stdin: bool = False, background: bool = False
    ) -> asyncio.subprocess.Process:
        cwd = found.path(asked.get("cwd") or "~")
        if not cwd.is_dir():
            raise not_found(f"directory {asked.get('cwd')}")
        argv = asked["argv"]
        if argv[0] == "ln":  # the one command whose paths are not this machine's
            argv = [*argv[:-1], str(found.path(argv[-1]))]
        try:
            return await asyncio.create_subprocess_exec(
                *argv,
                cwd=cwd,
                env=found.env | (asked.get("env") or {}),
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise not_found(f"program {argv[0]}") from error

    async def _exec(self, socket: WebSocket) -> None:
        found = self.one(socket)
        async with self._accepted(socket, "wellhead.exec.1"):
            asked = await socket.receive_json()
            try:
                process = await self._spawn(found, asked, stdin=asked.get("stdin", False))
            except Refusal as refusal:
                return await self._refuse(socket, refusal)
            found.running[process.pid] = asked["argv"]
            await socket.send_json({"type": "started", "pid": process.pid, "tag": asked.get("tag")})
            feeding = asyncio.create_task(self._feed(socket, process))
            timed_out = False
            try:
                async with asyncio.timeout(asked.get("timeout_seconds")):
                    await asyncio.gather(
                        self._carry(socket, 1, process.stdout), self._carry(socket, 2, process.stderr)
                    )
                    await process.wait()
            except TimeoutError:
                timed_out = True
                _signal(process, signals.SIGKILL)
                await process.wait()
            finally:
                del found.running[process.pid]
                feeding.cancel()
                await asyncio.wait([feeding])
            await self._exited(socket, process, timed_out)

    async def _exited(
        self, socket: WebSocket, process: asyncio.subprocess.Process, timed_out: bool = False
    ) -> None:
        code = process.returncode
        assert code is not None
        by = {"exit_code": code, "signal": None} if code >= 0 else {"exit_code": None, "signal": -code}
        await socket.send_json({"type": "exited", **by, "timed_out": timed_out})

    async def _carry(self, socket: WebSocket, channel: int, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        while data := await stream.read(65536):
            await socket.send_bytes(bytes([channel]) + data)

    async def _feed(self, socket: WebSocket, process: asyncio.subprocess.Process) -> None:
        while (message := await socket.receive())["type"] == "websocket.receive":
            if (data := message.get("bytes")) is not None and process.stdin is not None:
                process.stdin.write(data[1:])
                with contextlib.suppress(ConnectionError):  # it has ended
                    await process.stdin.drain()
                if len(data) == 1:
                    process.stdin.close()
            elif (text := message.get("text")) is not None:
                asked = json.loads(text)
                name = "KILL" if asked["type"] == "kill" else asked["signal"]
                _signal(process, getattr(signals, f"SIG{name}"))
        _signal(process, signals.SIGKILL)

    async def _attach(self, socket: WebSocket) -> None:
        found, selector = self.one(socket), socket.path_params["selector"]
        named = [k for k in found.background.values() if selector in (k.tag, str(k.process.pid))]
        if not named:
            raise not_found(f"process {selector}")
        (kept,) = named
        async with self._accepted(socket, "wellhead.exec.1"):
            asked = socket.query_params.get("after")
            total = sum(len(data) for _, data in kept.pieces)
            after = total if asked is None else int(asked)
            told = {"pid": kept.process.pid, "tag": kept.tag, "next": after, "lost": 0}
            await socket.send_json({"type": "attached", **told})
            await _either(self._left(socket), self._heard(socket, kept, after))

    async def _left(self, socket: WebSocket) -> None:
        while (await socket.receive())["type"] == "websocket.receive":
            pass

    async def _heard(self, socket: WebSocket, kept: Kept, after: int) -> None:
        sent, place = 0, 0
        while True:
            async with kept.news:
                while not kept.over and place == len(kept.pieces):
                    await kept.news.wait()
            while place < len(kept.pieces):
                channel, data = kept.pieces[place]
                place, sent = place + 1, sent + len(data)
                if rest := data[max(0, len(data) - (sent - after)) :] if sent > after else b"":
                    await socket.send_bytes(bytes([channel]) + rest)
            if kept.over:
                return await self._exited(socket, kept.process)

    async def _pty(self, socket: WebSocket) -> None:
        found = self.one(socket)
        async with self._accepted(socket, "wellhead.terminal.1"):
            asked = await socket.receive_json()
            if asked["type"] == "start":
                tag = asked.get("tag") or f"pty-{secrets.token_hex(4)}"
                screen = found.screens[tag] = Screen(tag, asked["cols"], asked["rows"], self.kept)
                screen.started = asked
                await socket.send_json({"type": "started", "tag": tag, "pid": screen.pid})
                next = 0
            elif (known := found.screens.get(asked["tag"])) is None:
                return await self._refuse(socket, not_found(f"terminal {asked['tag']}"))
            else:
                screen, after = known, asked["after"]
                next = len(screen.output) if after is None else max(after, screen.oldest)
                told = {"tag": screen.tag, "pid": screen.pid, "next": next}
                told |= {"lost": 0 if after is None else next - after}
                await socket.send_json({"type": "attached", **told, "cols": 80, "rows": 24})
            await _either(self._typed(socket, screen), self._shown(socket, screen, next))

    async def _shown(self, socket: WebSocket, screen: Screen, next: int) -> None:
        while True:
            async with screen.news:
                while screen.exit is None and next == len(screen.output):
                    await screen.news.wait()
            if next < screen.oldest:
                lost = screen.oldest - next
                next = screen.oldest
                await socket.send_json({"type": "lost", "bytes": lost, "next": next})
            if data := bytes(screen.output[next : next + 32768]):
                await socket.send_bytes(struct.pack("!Q", next) + data)
                next += len(data)
            elif screen.exit is not None:
                code, number = screen.exit
                return await socket.send_json({"type": "exit", "exit_code": code, "signal": number})

    async def _typed(self, socket: WebSocket, screen: Screen) -> None:
        while (message := await socket.receive())["type"] == "websocket.receive":
            if (data := message.get("bytes")) is not None:
                await screen.type(data)
            elif (asked := json.loads(message["text"]))["type"] == "resize":
                screen.size = asked["cols"], asked["rows"]
                screen.sizes.append(screen.size)
            else:
                await screen.end(None, 9)

    @contextlib.asynccontextmanager
    async def _accepted(self, socket: WebSocket, protocol: str) -> AsyncIterator[None]:
        assert protocol in socket.scope["subprotocols"]
        await socket.accept(protocol)
        self.sockets.add(socket)
        try:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # gone, or cut by a test
                yield
                await socket.close()
        finally:
            self.sockets.discard(socket)

    async def _refuse(self, socket: WebSocket, refusal: Refusal) -> None:
        await socket.send_json({"type": "error", "code": refusal.code, "message": refusal.message})

    async def _write(self, request: Request) -> Response:
        found, asked = self.one(request), request.query_params
        content = b"".join([piece async for piece in request.stream()])
        path = found.path(asked["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if "mode" in asked:
            path.chmod(int(asked["mode"]))
        return JSONResponse({"entry": found.entry(path)})

    async def _files(self, request: Request) -> Response:
        found, asked = self.one(request), await request.json()
        path = found.path(asked.get("path") or asked["source"])
        match request.path_params["verb"]:
            case "stat":
                return JSONResponse({"entry": found.entry(path)})
            case "list":
                if not path.is_dir():
                    raise not_found(str(path))
                return JSONResponse({"entries": [found.entry(each) for each in sorted(path.iterdir())]})
            case "mkdir":
                if path.exists() and not (asked["exist_ok"] and path.is_dir()):
                    raise Refusal(409, "conflict", f"{path} exists")
                path.mkdir(parents=asked["parents"], exist_ok=True)
                return JSONResponse({"entry": found.entry(path)})
            case "remove":
                found.entry(path)
                if path.is_dir() and not path.is_symlink():
                    if any(path.iterdir()) and not asked["recursive"]:
                        raise Refusal(409, "conflict", f"{path} is not empty")
                    shutil.rmtree(path)
                else:
                    path.unlink()
                return Response(status_code=204)
            case "move":
                target = found.path(asked["target"])
                found.entry(path)
                if target.exists() and not asked["overwrite"]:
                    raise Refusal(409, "conflict", f"{target} exists")
                path.replace(target)
                return JSONResponse({"entry": found.entry(target)})
            case "stream/read":
                if path.is_dir():
                    raise Refusal(400, "invalid_request", f"{path} is a directory")
                found.entry(path)
                content = path.read_bytes()[asked.get("offset") or 0 :][: asked.get("length")]
                return StreamingResponse(_chunks(content), media_type="application/octet-stream")
            case other:
                raise not_found(other)

    async def _snapshot(self, request: Request) -> Response:
        asked = await request.json()
        name = asked.get("name") or f"template-{secrets.token_hex(4)}"
        if name in self.snapshots:
            raise Refusal(409, "template_name_taken", f"{name} is taken")
        record = {"name": name, "type": "snapshot", "platform": False, "protected": False}
        record |= {"size_bytes": 4096, "created_at": NOW}
        self.snapshots[name] = record
        return JSONResponse(record, 201)

    async def _list_snapshots(self, request: Request) -> Response:
        base = {"name": "minimal", "type": "base", "platform": True, "protected": True}
        wanted = request.query_params.get("type")
        return JSONResponse(
            [each for each in [base, *self.snapshots.values()] if each["type"] == (wanted or each["type"])]
        )

    async def _delete_snapshot(self, request: Request) -> Response:
        if self.snapshots.pop(request.path_params["name"], None) is None:
            raise not_found("the template")
        return Response(status_code=204)

    async def _create_host(self, request: Request) -> Response:
        name = json.loads(await request.body() or b"{}").get("name")
        host = {"id": new_host_id(), "name": name or "host", "status": "pending"}
        host |= {"organization_id": ORGANIZATION, "created_at": NOW, "updated_at": NOW}
        self.hosts[str(host["id"])] = host
        return JSONResponse({"host": host, "token": "wht_EXAMPLE", "expires_at": NOW}, 201)

    async def _list_hosts(self, request: Request) -> Response:
        return JSONResponse(list(self.hosts.values()))

    def _host(self, request: Request) -> dict[str, Any]:
        if (found := self.hosts.get(request.path_params["id"])) is None:
            raise not_found("the host")
        return found

    async def _get_host(self, request: Request) -> Response:
        return JSONResponse(self._host(request))

    async def _drain_host(self, request: Request) -> Response:
        host = self._host(request)
        host["status"] = "draining" if (await request.json())["draining"] else "online"
        return JSONResponse(host)

    async def _delete_host(self, request: Request) -> Response:
        del self.hosts[self._host(request)["id"]]
        return Response(status_code=204)


class _Told:
    """Checks the key before anything else, and tells refusals."""

    def __init__(self, server: SandboxServer, app: ASGIApp) -> None:
        self._server, self._app = server, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            if headers.get(b"x-api-key") != KEY.reveal().encode():
                raise Refusal(401, "unauthorized", "no such key")
            if self._server.refusal is not None:
                raise self._server.refusal
            await self._app(scope, receive, send)
        except Refusal as refusal:
            told = {"error": {"code": refusal.code, "message": refusal.message}}
            answer = JSONResponse(told, refusal.status)
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(answer)
            else:
                await answer(scope, receive, send)


async def _either(*both: Coroutine[Any, Any, None]) -> None:
    """Do both until one of them is done."""
    tasks = [asyncio.create_task(each) for each in both]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    """To it and to what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 10_000):
        yield content[at : at + 10_000]


class Served(NamedTuple):
    server: SandboxServer
    port: int
    ca_file: Path


@contextmanager
def sandbox_server(home: Path) -> Iterator[Served]:
    """It, on a port of this machine over TLS, in a thread of its own."""
    server, ready, authority = SandboxServer(home), threading.Event(), certs.authority(home)
    over, port = asyncio.Event(), 0

    async def serve() -> None:
        nonlocal port
        server.loop = asyncio.get_running_loop()
        async with served(server.app, authority.address_context(), websockets=True) as port:
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="sandboxes", daemon=True)
    thread.start()
    try:
        assert ready.wait(20)
        yield Served(server, port, authority.ca_file)
    finally:
        assert server.loop is not None
        server.loop.call_soon_threadsafe(over.set)
        thread.join(20)
