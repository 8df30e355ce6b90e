"""Who asks: visitors in three protocols, an operator of each tunnel, squatters and holders of old secrets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Coroutine, Iterator
from random import Random
from typing import Any, TypeVar

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.chaos.history import NEVER, Created, Deleted, Freed, Restored, Rotated, Visited, Welcomed
from tests.chaos.scene import FAULTS, Post, Scene
from tests.kit.visitors import Truncated, Visitor, request, visiting
from wellhead.client import AsyncClient
from wellhead.errors import ApiError, Conflict, LinkError, NotFound, WellheadError
from wellhead.model.access import Secret
from wellhead.net.carrier import MuxCarrier
from wellhead.net.tls import ALPN_MUX, client_context
from wellhead.net.uplink import EdgeAddress, Status, Uplink
from wellhead.wire.messages import Hello, Welcome
from wellhead.wire.mux import MuxStream
from wellhead.wire.streams import Buffer, Reason, StreamKind

T = TypeVar("T")
METHODS = ("GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE")
SIZES = (0, 1, 100, 5_000, 70_000, 200_000)
PAUSE_SECONDS = 0.05
PROBE_SECONDS = 3.0


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


class Unknown(Exception):
    """Nobody can say whether the call was carried out."""


# Visitors


async def visit_http1(scene: Scene, who: str) -> None:
    """Some requests on each connection, until it is over."""
    chance = scene.dice(who)
    while not scene.over:
        name = chance.choice(scene.posts).name
        with contextlib.suppress(OSError, TimeoutError, Truncated):
            async with visiting(scene.edge, f"{name}.localhost") as visitor:
                for _ in range(chance.randint(1, 8)):
                    await _ask_http1(scene, visitor, name, chance)
                    await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS))
        await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS))


async def _ask_http1(scene: Scene, visitor: Visitor, name: str, chance: Random) -> None:
    number, method, body = _invent(scene, chance)
    began, seen = scene.history.now(), None
    try:
        length = body if method in ("POST", "PUT", "PATCH") else None
        host = f"{name}.localhost:{scene.https}"
        await visitor.send(request(f"/{number}", host, method=method, body=length))
        reply = await visitor.reply(method)
        fields = {key: reply.get(key) or "" for key in ("x-tunnel", "x-generation", "x-id")}
        seen = (reply.status, fields, reply.body)
    finally:
        _note(scene, began, number, method, name, body, seen)


async def visit_http2(scene: Scene, who: str) -> None:
    """Requests side by side on one HTTP/2 connection, until it is over."""
    chance = scene.dice(who)
    while not scene.over:
        name = chance.choice(scene.posts).name
        async with httpx.AsyncClient(
            http1=False, http2=True, verify=scene.edge.trust(), trust_env=False, timeout=10,
            base_url=f"https://127.0.0.1:{scene.https}", headers={"Host": f"{name}.localhost:{scene.https}"},
            limits=httpx.Limits(max_connections=1),
        ) as client:  # fmt: skip
            for _ in range(chance.randint(1, 5)):
                await asyncio.gather(*(_ask_http2(scene, client, name, chance) for _ in range(4)))
                await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS))


async def _ask_http2(scene: Scene, client: httpx.AsyncClient, name: str, chance: Random) -> None:
    number, method, body = _invent(scene, chance)
    began, seen = scene.history.now(), None
    try:
        reply = await client.request(
            method, f"/{number}", extensions={"sni_hostname": f"{name}.localhost"},
            content=body if method in ("POST", "PUT", "PATCH") else None,
        )  # fmt: skip
        seen = (reply.status_code, reply.headers, reply.content)
    except (httpx.HTTPError, OSError):
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        _note(scene, began, number, method, name, body, seen)


async def visit_websocket(scene: Scene, who: str) -> None:
    """Conversations, until it is over: every message comes back as it was."""
    chance = scene.dice(who)
    while not scene.over:
        name, number = chance.choice(scene.posts).name, f"w{scene.history.number()}"
        said, heard = b"", b""
        began, fields = scene.history.now(), None
        try:
            async with connect(
                f"wss://{name}.localhost:{scene.https}/{number}", host="127.0.0.1", port=scene.https,
                ssl=scene.edge.trust(), proxy=None, compression=None, open_timeout=5, close_timeout=2,
            ) as client:  # fmt: skip
                assert client.response is not None
                fields = client.response.headers
                for _ in range(chance.randint(1, 40)):
                    message = chance.randbytes(chance.randint(1, 100))
                    await client.send(message)
                    async with asyncio.timeout(8):
                        answer = await client.recv(decode=False)
                    said, heard = said + message, heard + answer
                    await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS))
        except (OSError, WebSocketException, TimeoutError, EOFError):
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            seen = None if fields is None else (101, fields, heard)
            _note(scene, began, number, "WEBSOCKET", name, said, seen, prefix=b"")


def _invent(scene: Scene, chance: Random) -> tuple[str, str, bytes]:
    method = chance.choice(METHODS)
    body = chance.randbytes(chance.choice(SIZES)) if method in ("POST", "PUT", "PATCH") else b""
    return f"v{scene.history.number()}", method, body


def _note(
    scene: Scene, began: float, number: str, method: str, name: str, body: bytes, seen: Any,
    prefix: bytes | None = None,
) -> None:  # fmt: skip
    """Write a visit down; ``seen`` is status, fields and body, None where no whole answer came."""
    if seen is None:
        scene.history.add(Visited(began=began, ended=NEVER, id=number, method=method, name=name))
        return
    status, fields, got = seen
    prefix = number.encode() + b"\n" if prefix is None else prefix
    scene.history.add(
        Visited(
            began=began, ended=scene.history.now(), id=number, method=method, name=name, status=status,
            tunnel=fields.get("x-tunnel", ""), generation=int(fields.get("x-generation") or 0),
            answers=fields.get("x-id", ""), wanted=digest(prefix + body), got=digest(got),
        )
    )  # fmt: skip


# The control plane's clients


class Operator:
    """Creates one name's tunnel, changes its secret, deletes it, and hires its agents."""

    def __init__(self, scene: Scene, post: Post, client: AsyncClient) -> None:
        self.scene = scene
        self.post = post
        self.client = client
        self.chance = scene.dice(f"operator {post.name}")
        self.adopted = False  # the tunnel was found, not made: it may be a squatter's, who takes it away

    async def run(self) -> None:
        """For ever, one thing after the other."""
        while not self.scene.over:
            await asyncio.sleep(self.chance.uniform(3, 12))
            async with self.post.busy:
                work = self.chance.choice((self.rotate, self.rotate, self.delete, self.replace, self.hire))
                with contextlib.suppress(Unknown), self._unless_taken_away():
                    await work()
            await self.settle()

    async def settle(self) -> None:
        """Until the tunnel is there and its secret known; agents that have left are replaced."""
        async with self.post.busy:
            while not self.post.tunnel or not self.post.secret:
                with contextlib.suppress(Unknown), self._unless_taken_away():
                    await self.create() if not self.post.tunnel else await self.rotate()
                    continue
                await asyncio.sleep(0.2)
            self.post.supervise()

    @contextlib.contextmanager
    def _unless_taken_away(self) -> Iterator[None]:
        """A tunnel that was made here must be there until it is deleted here."""
        try:
            yield
        except (NotFound, Conflict):
            if not self.adopted:
                raise
            self.post.tunnel, self.post.secret, self.adopted = "", Secret(""), False

    async def hire(self) -> None:
        """New agents in place of the old."""
        for crew in self.post.crews:
            crew.hire()

    async def create(self) -> None:
        post, began, key = self.post, self.scene.history.now(), f"key-{self.scene.history.number()}"
        try:
            created = await _outcome(self.client.tunnels.create(post.name, idempotency_key=key))
        except (Conflict, Unknown):  # an earlier try may have made it: then its secret is replaced
            found = await _outcome(self.client.tunnels.find(post.name))
            if found is None:
                raise Unknown from None
            post.tunnel, post.secret, post.generation = str(found.id), Secret(""), 1
            self.adopted = True
        else:
            post.tunnel, post.secret = str(created.tunnel.id), created.connect_secret
            post.generation, self.adopted = 1, False
        self._add(Created, began, name=post.name)

    async def rotate(self) -> None:
        post, hard = self.post, self.chance.random() < 0.7
        began = self.scene.history.now()
        facts: dict[str, Any] = {"generation": post.generation, "hard": hard}
        try:
            secret = await _outcome(self.client.tunnels.rotate_secret(post.tunnel, hard=hard))
        except Unknown:  # one of the two secrets is good, nobody knows which
            post.secret = Secret("")
            self._add(Rotated, began, unknown=True, **facts)
            raise
        self._add(Rotated, began, **facts)
        if post.secret:
            post.retired.append((post.tunnel, post.generation, post.secret))
        post.secret, post.generation = secret, post.generation + 1
        if hard or self.chance.random() < 0.5:
            await self.hire()

    async def delete(self) -> None:
        """Delete, and take it back."""
        await self._change(Deleted, self.client.tunnels.delete(self.post.tunnel))
        await asyncio.sleep(self.chance.uniform(0, 3))
        while True:
            with contextlib.suppress(Unknown):
                try:
                    await self._change(Restored, self.client.tunnels.restore(self.post.tunnel))
                except Conflict:  # an earlier try did it
                    pass
                return

    async def replace(self) -> None:
        """Delete for good; the name is taken anew by ``settle``."""
        await self._change(Deleted, self.client.tunnels.delete(self.post.tunnel))
        await asyncio.sleep(self.chance.uniform(0, 2))
        gone = False
        while not gone:
            with contextlib.suppress(Unknown):
                try:
                    await self._change(Freed, self.client.tunnels.force_delete(self.post.tunnel))
                except (Conflict, NotFound):  # an earlier try did it
                    pass
                gone = True
        self.post.retired.clear()
        self.post.tunnel, self.post.secret = "", Secret("")

    async def _change(self, kind: Any, call: Coroutine[Any, Any, object]) -> None:
        began = self.scene.history.now()
        try:
            await _outcome(call)
        except Unknown:
            self._add(kind, began, unknown=True)
            raise
        self._add(kind, began)

    def _add(self, kind: Any, began: float, *, unknown: bool = False, **facts: object) -> None:
        ended = NEVER if unknown else self.scene.history.now()
        self.scene.history.add(kind(began=began, ended=ended, tunnel=self.post.tunnel, **facts))


async def _outcome(call: Coroutine[Any, Any, T]) -> T:
    """
    Raises:
        ApiError: the server said no.
        Unknown: it could not say.
    """
    try:
        return await call
    except ApiError as error:
        if error.status < 500 and error.status != 429:
            raise
        raise Unknown from error
    except LinkError as error:
        raise Unknown from error


async def squat(scene: Scene, client: AsyncClient) -> None:
    """Try to create names that are taken, until it is over."""
    chance = scene.dice("squatter")
    while not scene.over:
        name, began = chance.choice(scene.posts).name, scene.history.now()
        with contextlib.suppress(Unknown, Conflict):
            created = await _outcome(client.tunnels.create(name))
            tunnel = str(created.tunnel.id)
            scene.history.add(Created(began=began, ended=scene.history.now(), tunnel=tunnel, name=name))
            # It was free: an operator is about to take it anew. Leave it again.
            for kind, call in ((Deleted, client.tunnels.delete), (Freed, client.tunnels.force_delete)):
                done = False
                while not done:
                    began = scene.history.now()
                    with contextlib.suppress(Unknown):
                        with contextlib.suppress(Conflict, NotFound):
                            await _outcome(call(tunnel))
                        scene.history.add(kind(began=began, ended=scene.history.now(), tunnel=tunnel))
                        done = True
        await asyncio.sleep(chance.uniform(0.1, 0.6))


async def try_old_secrets(scene: Scene) -> None:
    """Say hello with secrets that were replaced, until it is over."""
    chance = scene.dice("burglar")
    context = client_context(ca_file=scene.edge.ca, alpn=[ALPN_MUX])
    while not scene.over:
        await asyncio.sleep(chance.uniform(0.05, 0.3))
        retired = [each for post in scene.posts for each in post.retired[-3:]]
        if retired:
            await _say_hello(scene, context, *chance.choice(retired))


async def _say_hello(scene: Scene, context: Any, tunnel: str, generation: int, secret: Secret) -> None:
    began = scene.history.now()

    def welcomed(welcome: Welcome) -> None:
        scene.history.add(
            Welcomed(began=began, ended=scene.history.now(), tunnel=tunnel, generation=generation)
        )

    uplink = Uplink(
        EdgeAddress("127.0.0.1", scene.https, context), [MuxCarrier(Hello(tunnel, secret.reveal()), _refuse)],
        on_status=_ignore, on_welcome=welcomed,
    )  # fmt: skip
    with contextlib.suppress(WellheadError, TimeoutError):
        async with asyncio.timeout(PROBE_SECONDS):
            await uplink.run()


def _refuse(stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
    stream.reset(Reason.REFUSED)


def _ignore(status: Status, error: WellheadError | None) -> None: ...


# Trouble


async def trouble(scene: Scene, who: str) -> None:
    """One fault after the other, until it is over."""
    chance = scene.dice(who)
    while not scene.over:
        fault = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
        async with scene.fault(fault.__name__):
            await fault(scene, chance)  # type: ignore[misc]
        await asyncio.sleep(chance.uniform(0.5, 3))


async def watch(scene: Scene) -> None:
    """Read the metrics again and again."""
    while not scene.over:
        await scene.sample()
        await asyncio.sleep(0.5)
