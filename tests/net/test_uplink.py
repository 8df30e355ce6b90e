"""An uplink against edges that do what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kit.certs import DAY, Root, authority, trusting
from tests.kit.transport import FakeTransport
from wellhead.errors import (
    DialError,
    HelloError,
    QuotaExceeded,
    Retry,
    SecretRejected,
    TrustError,
    WellheadError,
)
from wellhead.net import dialling
from wellhead.net.authority import LocalAuthority
from wellhead.net.backoff import Backoff
from wellhead.net.carrier import MuxCarrier
from wellhead.net.changes import NetworkChanges
from wellhead.net.keypair import read_operators
from wellhead.net.session import Session, boot_time
from wellhead.net.tls import ALPN_MUX, client_context
from wellhead.net.uplink import EdgeAddress, Status, Uplink, UplinkTimes
from wellhead.wire.frames import Kind
from wellhead.wire.messages import Hello, Refused, Welcome
from wellhead.wire.mux import MuxStream, Role
from wellhead.wire.streams import Buffer, HeadKind, Reason, StreamKind

BOTH_LOOPS = True
PATIENCE = 20.0
HELLO = Hello(tunnel="my-agent", secret="whs_secret", agent="test/1")

Answer = Callable[[Session, Hello], None]


def welcoming(session: Session, hello: Hello) -> None:
    session.mux.start(hello.window)
    welcome = Welcome(session="s_1", tunnel_id="t_1", name=hello.tunnel, public_urls=["https://x"])
    session.mux.control(Kind.WELCOME, welcome.encode())


def refusing(code: str, *, final: bool, retry_after_ms: int = 0) -> Answer:
    def answer(session: Session, hello: Hello) -> None:
        refused = Refused(code, "no, " + code, final=final, retry_after_ms=retry_after_ms)
        session.mux.control(Kind.REFUSED, refused.encode())
        session.close()

    return answer


def silent(session: Session, hello: Hello) -> None: ...


@dataclass
class Edge:
    """Answers each hello by the next of ``answers``, and by the last of them for ever."""

    port: int
    context: EdgeAddress
    answers: list[Answer]
    hellos: list[Hello] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    dials: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def control(self, session: Session, kind: int, payload: bytes) -> None:
        assert kind == Kind.HELLO
        hello = Hello.decode(payload)
        self.hellos.append(hello)
        self.sessions.append(session)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer(session, hello)
        self.arrived.set()

    async def next(self) -> Session:
        """The next session that says hello."""
        async with asyncio.timeout(PATIENCE):
            await self.arrived.wait()
        self.arrived.clear()
        return self.sessions[-1]


def _no_stream(stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
    raise AssertionError("an agent opened a stream")


@contextlib.asynccontextmanager
async def edge_of(
    ca: LocalAuthority,
    *answers: Answer,
    port: int = 0,
    hostname: str = "localhost",
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[Edge]:
    loop = asyncio.get_running_loop()
    context = context or ca.leaf_context(hostname, [ALPN_MUX])
    edge = Edge(0, EdgeAddress("localhost", 0, trusting(ca, [ALPN_MUX])), list(answers))
    live: set[Session] = set()

    def made() -> Session:
        edge.dials += 1
        session = Session(
            Role.ACCEPTOR,
            on_open=_no_stream,
            on_control=edge.control,
            on_lost=lambda session, error: live.discard(session),
        )
        live.add(session)
        return session

    server = await loop.create_server(made, "127.0.0.1", port, ssl=context)
    edge.port = server.sockets[0].getsockname()[1]
    edge.context = EdgeAddress("localhost", edge.port, edge.context.context)
    try:
        yield edge
    finally:
        server.close()
        for session in list(live):
            session.abort()


class Watched:
    """An uplink in its task, and everything it told."""

    def __init__(self, address: EdgeAddress, clock: Callable[[], float] = boot_time, **times: float) -> None:
        self.told: list[tuple[Status, WellheadError | None]] = []
        self.opened: list[tuple[MuxStream, bytes]] = []
        self.welcomes: list[Welcome] = []
        self._changed = asyncio.Event()
        self.uplink = Uplink(
            address,
            [MuxCarrier(HELLO, self._open)],
            on_status=self._status,
            on_welcome=self.welcomes.append,
            times=UplinkTimes(**{"close_seconds": 0.5, **times}),
            backoff=Backoff(lambda low, high: high / 50),
            clock=clock,
            network_changes=self._hear_changes,
        )
        self.task = asyncio.get_running_loop().create_task(self.uplink.run())

    def _hear_changes(self, call: Callable[[], None]) -> NetworkChanges:
        self.network_changed = call
        return NetworkChanges(call)

    def _open(self, stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        stream.sink = Deaf()
        self.opened.append((stream, envelope))
        stream.head(HeadKind.REPLY, b"HTTP/1.1 204 No Content\r\n\r\n", b"", True)

    def _status(self, status: Status, error: WellheadError | None) -> None:
        self.told.append((status, error))
        self._changed.set()

    @property
    def statuses(self) -> list[Status]:
        return [status for status, _ in self.told]

    async def until(self, status: Status, times: int = 1) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.statuses.count(status) < times:
                self._changed.clear()
                await self._changed.wait()

    async def failed(self) -> WellheadError:
        """What ended it."""
        with pytest.raises(WellheadError) as caught:
            await asyncio.wait_for(self.task, PATIENCE)
        return caught.value

    async def end(self) -> None:
        await self.uplink.aclose()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Deaf:
    """A sink for streams that a test does not listen to."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.reset: int | None = None
        self.done = asyncio.Event()

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self.heads.append(head)
        self.done.set()

    def on_data(self, data: Buffer, end: bool) -> None: ...

    def on_reset(self, reason: int) -> None:
        self.reset = reason
        self.done.set()

    def on_writable(self) -> None: ...


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> LocalAuthority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def watch() -> AsyncIterator[Callable[..., Watched]]:
    """Makes uplinks and ends them."""
    made: list[Watched] = []

    def make(address: EdgeAddress, clock: Callable[[], float] = boot_time, **times: float) -> Watched:
        made.append(Watched(address, clock, **times))
        return made[-1]

    yield make
    for each in made:
        await each.end()


Watch = Callable[..., Watched]


async def test_a_welcomed_uplink_is_connected_and_takes_streams(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, welcoming) as edge:
        watched = watch(edge.context)
        await watched.until(Status.CONNECTED)
        assert edge.hellos == [HELLO]
        assert watched.welcomes[0].public_urls == ["https://x"]
        sink = Deaf()
        edge.sessions[0].open(StreamKind.HTTP, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", sink, b"", True)
        await asyncio.wait_for(sink.done.wait(), PATIENCE)
        assert sink.heads == [b"HTTP/1.1 204 No Content\r\n\r\n"]


async def test_a_lost_session_is_replaced(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, welcoming) as edge:
        watched = watch(edge.context)
        await watched.until(Status.CONNECTED)
        edge.sessions[0].abort()
        await watched.until(Status.CONNECTED, 2)
        assert watched.statuses == [Status.CONNECTED, Status.RECONNECTING, Status.CONNECTED]
        assert len(edge.hellos) == 2


async def test_an_edge_that_is_not_there_yet_is_dialled_again(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, welcoming) as edge:
        address = edge.context
    watched = watch(address)
    await watched.until(Status.RECONNECTING, 2)
    assert isinstance(watched.told[0][1], DialError)
    async with edge_of(ca, welcoming, port=address.port):
        await watched.until(Status.CONNECTED)


async def test_a_final_refusal_ends_it_with_the_error_of_its_code(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, refusing("secret-rejected", final=True)) as edge:
        watched = watch(edge.context)
        error = await watched.failed()
        assert isinstance(error, SecretRejected) and error.retry is Retry.NEVER
        assert len(edge.hellos) == 1
        assert watched.told == [(Status.CLOSED, error)]


async def test_a_refusal_that_is_not_final_is_waited_out_as_it_asks(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, refusing("quota", final=False, retry_after_ms=300), welcoming) as edge:
        began = asyncio.get_running_loop().time()
        watched = watch(edge.context)
        await watched.until(Status.CONNECTED)
        assert asyncio.get_running_loop().time() - began >= 0.3
        status, error = watched.told[0]
        assert status is Status.RECONNECTING and isinstance(error, QuotaExceeded)


async def test_an_unknown_refusal_says_itself_whether_it_is_final(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, refusing("news", final=False), refusing("news", final=True)) as edge:
        error = await watch(edge.context).failed()
        assert error.code == "refused" and len(edge.hellos) == 2


async def test_an_edge_that_does_not_answer_the_hello_is_given_up(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, silent, welcoming) as edge:
        watched = watch(edge.context, hello_seconds=0.2)
        await watched.until(Status.CONNECTED)
        assert isinstance(watched.told[0][1], HelloError)
        assert len(edge.hellos) == 2


async def test_no_secret_is_sent_to_an_edge_that_is_not_trusted(
    ca: LocalAuthority, tmp_path: Path, watch: Watch
) -> None:
    stranger = authority(tmp_path)
    async with edge_of(stranger, welcoming) as edge:
        error = await watch(EdgeAddress("localhost", edge.port, trusting(ca, [ALPN_MUX]))).failed()
        assert isinstance(error, TrustError)
        assert not edge.hellos


def flawed(case: str, root: Root, directory: Path) -> tuple[ssl.SSLContext, str]:
    """An edge's context with a certificate that is no good, and what is said of it."""
    days = {"expired": (-2 * DAY, -DAY), "early": (DAY, 2 * DAY)}.get(case, (-DAY, DAY))
    name = "other.example.org" if case == "name" else "localhost"
    says = {
        "expired": "its certificate has expired by this machine's clock",
        "early": "its certificate is not valid yet by this machine's clock",
        "name": "its certificate is for another name than localhost",
        "issuer": "its certificate for localhost is not trusted: unable to get local issuer certificate"
        " (checked against ",
    }[case]
    issuer = Root("Stranger") if case == "issuer" else root
    pair = issuer.pair(name, begins=days[0], ends=days[1])
    return read_operators(*root.put(directory, case, pair)).context([ALPN_MUX]), says


@pytest.fixture
def root(tmp_path: Path) -> tuple[Root, Path]:
    made = Root()
    (tmp_path / "root.pem").write_text(made.pem)
    return made, tmp_path / "root.pem"


@pytest.mark.parametrize("case", ["expired", "early", "name", "issuer"])
async def test_an_edge_with_a_flawed_certificate_is_told_its_flaw_and_no_secret(
    ca: LocalAuthority, tmp_path: Path, watch: Watch, root: tuple[Root, Path], case: str
) -> None:
    context, says = flawed(case, root[0], tmp_path)
    trust = client_context(ca_file=root[1], alpn=[ALPN_MUX])
    async with edge_of(ca, welcoming, context=context) as edge:
        error = await watch(EdgeAddress("localhost", edge.port, trust)).failed()
        assert isinstance(error, TrustError) and error.issuer_known is (case != "issuer")
        assert str(error).startswith(f"localhost:{edge.port}: {says}")
        assert not edge.hellos and edge.dials == 1


async def test_an_edge_that_was_trusted_is_tried_again_until_its_certificate_is_good_again(
    ca: LocalAuthority, tmp_path: Path, watch: Watch, root: tuple[Root, Path]
) -> None:
    good = read_operators(*root[0].put(tmp_path, "good", root[0].pair("localhost"))).context([ALPN_MUX])
    bad, says = flawed("expired", root[0], tmp_path)
    trust = client_context(ca_file=root[1], alpn=[ALPN_MUX])
    async with edge_of(ca, welcoming, context=good) as edge:
        watched = watch(EdgeAddress("localhost", edge.port, trust))
        await watched.until(Status.CONNECTED)
        port = edge.port
    async with edge_of(ca, welcoming, port=port, context=bad) as edge:
        await watched.until(Status.RECONNECTING, 3)  # the first is that the edge went away
        told = [error for status, error in watched.told if status is Status.RECONNECTING]
        assert says in str(told[-1]) and isinstance(told[-1], TrustError)
        assert not edge.hellos
    async with edge_of(ca, welcoming, port=port, context=good) as edge:
        await watched.until(Status.CONNECTED, 2)
        assert len(edge.hellos) == 1


async def test_a_draining_session_is_replaced_before_it_ends(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, welcoming) as edge:
        watched = watch(edge.context)
        old = await edge.next()
        await watched.until(Status.CONNECTED)
        # A stream that is still open on the old session while the new one is made.
        running = Deaf()
        old.open(StreamKind.HTTP, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", running, b"", False)
        await asyncio.wait_for(running.done.wait(), PATIENCE)
        old.drain()
        new = await edge.next()
        await watched.until(Status.CONNECTED, 2)
        assert watched.statuses == [Status.CONNECTED, Status.DRAINING, Status.CONNECTED]
        assert new is not old and running.reset is None and old.load == 1
        old.close()
        await asyncio.wait_for(old.closed, PATIENCE)
        assert watched.statuses[-1] is Status.CONNECTED


async def test_a_successor_that_is_refused_for_now_is_tried_again(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, welcoming, refusing("quota", final=False), welcoming) as edge:
        watched = watch(edge.context)
        await watched.until(Status.CONNECTED)
        edge.sessions[0].drain()
        await watched.until(Status.CONNECTED, 2)
        assert Status.RECONNECTING not in watched.statuses


async def test_a_drained_session_that_ends_before_its_successor_is_there_is_told(
    ca: LocalAuthority, watch: Watch
) -> None:
    async with edge_of(ca, welcoming, silent) as edge:
        watched = watch(edge.context, hello_seconds=0.3)
        await watched.until(Status.CONNECTED)
        edge.sessions[0].drain()
        await watched.until(Status.DRAINING)
        edge.sessions[0].close()
        await watched.until(Status.RECONNECTING)


async def test_closing_lets_open_streams_finish(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, welcoming) as edge:
        watched = watch(edge.context)
        await watched.until(Status.CONNECTED)
        running = Deaf()
        session = edge.sessions[0]
        stream = session.open(StreamKind.HTTP, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", running, b"", False)
        await asyncio.wait_for(running.done.wait(), PATIENCE)
        asked = asyncio.Event()
        session.on_peer_draining(lambda session, milliseconds: asked.set())
        closing = asyncio.ensure_future(watched.uplink.aclose(drain_seconds=PATIENCE))
        await asyncio.wait_for(asked.wait(), PATIENCE)
        assert not closing.done() and running.reset is None
        stream.send(b"", True)
        await asyncio.wait_for(closing, PATIENCE)
        await asyncio.wait_for(watched.task, PATIENCE)
        assert watched.statuses == [Status.CONNECTED, Status.CLOSED]
        assert running.reset is None


async def test_closing_does_not_wait_for_ever(ca: LocalAuthority, watch: Watch) -> None:
    async with edge_of(ca, welcoming) as edge:
        watched = watch(edge.context)
        await watched.until(Status.CONNECTED)
        running = Deaf()
        edge.sessions[0].open(StreamKind.HTTP, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", running, b"", False)
        await asyncio.wait_for(running.done.wait(), PATIENCE)
        running.done.clear()
        await asyncio.wait_for(watched.uplink.aclose(drain_seconds=0.1), PATIENCE)
        await asyncio.wait_for(running.done.wait(), PATIENCE)
        assert running.reset == Reason.SESSION_LOST


async def test_a_pause_ends_when_the_machine_has_slept(ca: LocalAuthority, watch: Watch) -> None:
    clock = _Boot()
    async with edge_of(ca, refusing("quota", final=False, retry_after_ms=60_000), welcoming) as edge:
        watched = watch(edge.context, clock)
        await watched.until(Status.RECONNECTING)
        clock.slept(3600.0)
        await watched.until(Status.CONNECTED)


class _Boot:
    """A clock that may have gone on while we did not."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def slept(self, seconds: float) -> None:
        self._ahead += seconds

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self._ahead


class Mortal(FakeTransport):
    """Its protocol hears of its end."""

    def __init__(self, session: Session) -> None:
        super().__init__(tls=True)
        self._session = session

    def abort(self) -> None:
        super().abort()
        asyncio.get_running_loop().call_soon(self._session.connection_lost, None)


async def test_a_connection_that_is_lost_while_it_is_dialled_leaves_nothing_behind(
    ca: LocalAuthority, watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, and gone before the dial returns: the dial's error is told, and no other is left for nobody."""
    unheard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
    transports: list[FakeTransport] = []

    async def dialled(*_: object, factories: dict[str, Callable[[], Session]], **__: object) -> None:
        session = factories[ALPN_MUX]()
        transports.append(Mortal(session))
        session.connection_made(transports[-1])
        if len(transports) == 1:
            session.connection_lost(ConnectionResetError(104, "reset"))
        raise DialError("no TLS connection within 10 s")

    monkeypatch.setattr(dialling, "dial_agreed", dialled)
    watched = watch(EdgeAddress("localhost", 1, trusting(ca, [ALPN_MUX])))
    await watched.until(Status.RECONNECTING, 2)
    await watched.end()
    assert {str(error) for status, error in watched.told if status is Status.RECONNECTING} == {
        "no TLS connection within 10 s"
    }
    assert transports[1].aborted
    del watched
    gc.collect()
    await asyncio.sleep(0)
    assert not unheard


async def test_a_change_of_the_network_makes_a_session_doubtful(
    ca: LocalAuthority, watch: Callable[..., Watched]
) -> None:
    """It is asked at once; where our address of it is gone it is over."""
    async with edge_of(ca, welcoming) as edge:
        watched = watch(edge.context)
        session = await edge.next()
        await watched.until(Status.CONNECTED)
        await asyncio.sleep(0.02)  # uvloop's clock counts milliseconds
        heard = session._heard
        watched.network_changed()
        async with asyncio.timeout(PATIENCE):
            while session._heard == heard:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert watched.statuses == [Status.CONNECTED]

        (ours,) = watched.uplink._live
        ours.local = ("192.0.2.1", 50_000)
        watched.network_changed()
        await watched.until(Status.CONNECTED, 2)
        assert "this machine's address 192.0.2.1 is gone" in str(watched.told[1][1])


async def test_a_change_of_the_network_cuts_a_pause_short(
    ca: LocalAuthority, watch: Callable[..., Watched]
) -> None:
    async with edge_of(ca, refusing("quota", final=False, retry_after_ms=60_000), welcoming) as edge:
        watched = watch(edge.context)
        await watched.until(Status.RECONNECTING)
        watched.network_changed()
        await watched.until(Status.CONNECTED)
