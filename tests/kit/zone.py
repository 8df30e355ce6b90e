"""The zone name in memory: an edge's door for the HTTP/2 carrier, scripted agents, visitors. No sockets.

An agent is our HTTP/2 client and says what a test has it say; visitors are real connections of the edge.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tests.kit.h2talk import frames
from tests.kit.house import COUNTS, TERMS, House, Visit
from tests.kit.notebook import Notebook
from tests.kit.transport import FakeTransport
from wellhead.edge.credentials import Credentials
from wellhead.edge.intake.bridge import BridgeTerms
from wellhead.edge.intake.connection import ZoneConnection
from wellhead.edge.intake.gate import IntakeGate
from wellhead.edge.intake.session import IntakeSession
from wellhead.edge.intake.terms import IntakeTerms, agent_h2_terms
from wellhead.edge.metrics import Metrics
from wellhead.errors import SecretRejected
from wellhead.model.access import Secret
from wellhead.model.records import (
    Admission,
    KeyId,
    OrganizationId,
    TlsMode,
    TunnelId,
    TunnelStatus,
    TunnelView,
)
from wellhead.net.session import Liveness
from wellhead.wire.h2 import Fields, H2Connection, H2Role, H2Stream, H2Terms
from wellhead.wire.h2_frames import GOAWAY
from wellhead.wire.intake import API_KEY, SECRET, Caller, Hello
from wellhead.wire.streams import Buffer

NAME, TUNNEL = "my-agent", TunnelId("6f1c1a3e-0000-4000-8000-000000000001")
VIEW = TunnelView(TUNNEL, NAME, OrganizationId("org"), TunnelStatus.ACTIVE, TlsMode.EDGE)
KEY_ID = KeyId("k_1")
HOST = f"{NAME}.localhost"
OURS = "wellhead-python/1.0"
AGENT_H2 = agent_h2_terms(
    H2Terms(), max_streams=2000, window=1 << 20, connection_window=1 << 24, max_held=32 << 20
)
INTAKE = IntakeTerms(h2=AGENT_H2, bridge=BridgeTerms(), liveness=Liveness())


class Records(Notebook):
    """A directory of one tunnel, whose secret is ``secret``, and of a key of its own, ``key``."""

    def __init__(self) -> None:
        super().__init__()
        self.views = {TUNNEL: VIEW}
        self.secret, self.key = "whs_good", "wh_good"
        self.gates: list[asyncio.Event] = []  # hellos wait for one each, where there are some
        self.removed: list[Callable[[TunnelId], None]] = []
        self.revoked: list[Callable[[KeyId], None]] = []

    def tunnel(self, name: str) -> TunnelView | None:
        return next((view for view in self.views.values() if view.name == name), None)

    def named(self, name: str) -> TunnelView | None:
        return self.tunnel(name)

    def on_removed(self, call: Callable[[TunnelId], None]) -> None:
        self.removed.append(call)

    def on_revoked(self, call: Callable[[KeyId], None]) -> None:
        self.revoked.append(call)

    async def admit(self, tunnel: str, secret: Secret, peer: str, agent: str) -> Admission:
        if self.gates:
            await self.gates.pop(0).wait()
        if self.error is not None:
            raise self.error
        view = self.views.get(TunnelId(tunnel))
        if view is None or secret.reveal() not in (self.secret, self.key):
            raise SecretRejected("not this secret")
        return Admission(view, KEY_ID if secret.reveal() == self.key else None)


class Zone:
    """The edge: one loop, one clock that a test may set ahead by ``later``."""

    def __init__(self, **changes: object) -> None:
        self.house = House(TERMS, COUNTS)
        self.records, self.metrics = Records(), Metrics()
        clock = asyncio.get_running_loop().time
        self.credentials = Credentials(self.records, clock, rejections_per_minute=10, loopback_exempt=True)
        self.gate = IntakeGate(
            self.records, self.credentials, self.house.registry, self.metrics,
            replace(INTAKE, **changes), lambda view: [f"https://{view.name}.localhost"],  # type: ignore[arg-type]
        )  # fmt: skip
        self.house.directory.views[NAME] = VIEW
        self.agents: list[ZoneAgent] = []

    def agent(self, **options: object) -> ZoneAgent:
        """A connection that has said nothing yet."""
        agent = ZoneAgent(self, **options)  # type: ignore[arg-type]
        self.agents.append(agent)
        return agent

    async def welcomed(self, parked: int = 4, **options: object) -> ZoneAgent:
        """An agent whose hello was let in and whose intakes are parked."""
        agent = self.agent(**options)
        hello = await agent.hello()
        assert hello.status == 200, hello
        agent.park(parked)
        return agent

    def visit(self) -> Visit:
        """A visitor's connection for the tunnel."""
        return self.house.visit(secure=True, sni=HOST)

    async def wait(self, seconds: float) -> None:
        """Let time pass while agents hear what they are told, and answer pings."""
        until = asyncio.get_running_loop().time() + seconds
        while (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, 0.25))
            for agent in self.agents:
                agent.talk()

    async def close(self) -> None:
        for agent in self.agents:
            agent.hang_up()
        await self.gate.close()
        self.house.close()

    def leaks(self) -> list[str]:
        """What is left of requests: nothing, once all are over."""
        left = [f"pending {len(seat.pending)}" for seat in self.gate._seats.values() if seat.pending]
        for session in self.gate._sessions:
            for name in ("running", "_bridges", "_heads"):
                if kept := getattr(session, name):
                    left.append(f"{session.id} {name} {len(kept)}")
            if session.pool.waiting:
                left.append(f"{session.id} waiting {len(session.pool.waiting)}")
            h2 = session._h2
            if h2.streams != len(session.pool.slots):
                left.append(f"{session.id} streams {h2.streams}, parked {len(session.pool.slots)}")
            if h2.held:
                left.append(f"{session.id} held {h2.held}")
        return left


@dataclass
class Answer:
    """What came on one stream of the agent's."""

    stream: H2Stream | None = None
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields).get(b":status", b"0"))

    def get(self, name: bytes) -> bytes:
        return dict(self.fields).get(name, b"")

    @property
    def request_id(self) -> bytes:
        """Of an envelope; empty: this is none."""
        return self.get(b"inkbox-request-id")

    @property
    def json(self) -> dict[str, object]:
        got = json.loads(self.body)
        assert isinstance(got, dict)
        return got

    def on_headers(self, fields: Fields, end: bool) -> None:
        self.fields, self.ended = fields, end

    def on_data(self, data: Buffer, end: bool) -> None:
        self.body += bytes(data)
        self.ended = end
        if self.stream is not None:
            self.stream.consumed(len(data))

    def on_reset(self, code: int) -> None:
        self.reset = code

    def on_writable(self) -> None: ...


class ZoneAgent:
    """One connection to the zone. ``talk`` carries bytes both ways until nobody says anything.

    ``key`` or else ``secret`` is its credential, ``user_agent`` what it says it is, ``window`` what it
    announces: that of the official Python SDK where nothing is said.
    """

    def __init__(
        self,
        zone: Zone,
        *,
        secret: str = "whs_good",
        key: str = "",
        user_agent: str = "",
        tunnel: str = TUNNEL,
        peer: str = "192.0.2.7",
        window: int = 65535,
    ) -> None:
        self.zone = zone
        self.connection: ZoneConnection = zone.gate.connection(
            zone.house.ingress, local=True, sni="localhost"
        )
        self.transport = FakeTransport(peer, tls=True)
        self.transport.protocol = self.connection
        credential = (API_KEY, key.encode()) if key else (SECRET, secret.encode())
        self.caller = Caller(b"localhost", tunnel.encode(), credential, user_agent=user_agent.encode())
        self.goaways: list[tuple[int, bytes]] = []
        self.silent = False  # as if the network were gone
        self.token = b""
        self.intakes: list[Answer] = []  # parked, and answered
        ours = user_agent.startswith("wellhead-")
        self.h2 = H2Connection(
            H2Role.CLIENT,
            terms=H2Terms(window=window, connection_window=window, opens_after_warning=ours),
            on_goaway=lambda last, code: None,
            wake=lambda: None,
            clock=asyncio.get_running_loop().time,
        )
        self.h2.start()
        self.connection.connection_made(self.transport)
        self.talk()

    @property
    def session(self) -> IntakeSession:
        session = self.connection.session
        assert session is not None
        return session

    def talk(self) -> None:
        if self.silent:
            return
        for _ in range(10_000):
            there = b"".join(self.h2.take(1 << 30))
            if there and not self.transport.closed:
                self.connection.data_received(there)
            self.connection.flush()
            back = self.transport.take()
            if not there and not back:
                break
            self._note_goaways(back)
            self.h2.receive(back)
        else:
            raise AssertionError("they talk for ever")
        if self.transport.closed:
            self.hang_up()

    def _note_goaways(self, data: bytes) -> None:
        for one in frames(data):
            if one.kind == GOAWAY:
                self.goaways.append((int.from_bytes(one.payload[4:8], "big"), one.payload[8:]))

    def ask(self, fields: Fields, end: bool = True) -> Answer:
        """Open a stream."""
        answer = Answer()
        answer.stream = self.h2.open(fields, end, answer)
        self.talk()
        return answer

    async def hello(self, pool: int | None = None) -> Answer:
        answer = self.ask(self.caller.hello(pool))
        for _ in range(10):
            await asyncio.sleep(0)
            self.talk()
        if answer.status == 200:
            self.token = Hello.read(answer.body).owner_token.encode()
        return answer

    def park(self, count: int = 1, token: bytes | None = None) -> Answer:
        """Park intakes; the last of them."""
        answer = Answer()
        for slot in range(count):
            answer = self.ask(self.caller.intake(slot, self.token if token is None else token))
            self.intakes.append(answer)
        return answer

    @property
    def parked(self) -> int:
        """Intakes that were not answered."""
        return sum(not (answer.fields or answer.reset is not None) for answer in self.intakes)

    @property
    def envelopes(self) -> list[Answer]:
        """Intakes that were answered by one."""
        return [answer for answer in self.intakes if answer.request_id]

    def reply(
        self,
        request_id: bytes,
        body: bytes | None = b"",
        status: int = 200,
        fields: Sequence[tuple[bytes, bytes]] = (),
        *,
        length: int | None = None,
    ) -> Answer:
        """Post a reply; a body of None is still to come."""
        told = len(body or b"") if length is None else length
        head = [
            *self.caller.response(request_id), (b"inkbox-status", b"%d" % status),
            (b"inkbox-request-id", request_id), (b"content-length", b"%d" % told),
            *((b"inkbox-h-" + name, value) for name, value in fields),
        ]  # fmt: skip
        if body is None or body:
            answer = Answer()
            answer.stream = self.h2.open(head, False, answer)
            if body:
                answer.stream.data(body, True)
            self.talk()
            return answer
        return self.ask(head)

    def hang_up(self) -> None:
        """The connection is gone."""
        if self.connection._transport is not None:
            self.connection.connection_lost(None)
            self.h2.lost()
