"""The HTTP/2 carrier at an agent: who makes its sessions, and what outlives one of them.

An edge that leaves hands its agent to a successor: what was taken on the old session is answered there, or
on the new one where the old one is gone.

Source: docs/reference/h2-carrier.md.
"""

from __future__ import annotations

import asyncio
import base64
import os

from wellhead.agent.intake.call import Call
from wellhead.agent.intake.exchange import Exchange
from wellhead.agent.intake.reply import ReplyHeads
from wellhead.agent.intake.session import IntakeSession
from wellhead.agent.intake.terms import IntakeLimits
from wellhead.net.carrier import Ear, OnStream, Opening
from wellhead.net.tls import ALPN_H2
from wellhead.wire.intake import Caller

TICK_SECONDS = 0.25
HAND_OVER_SECONDS = 30.0  # for which a reply waits for a session that takes it


class IntakeCarrier:
    """``host``: the tunnel's public host, where an edge does not tell which one its visitor asked for.

    ``on_stream`` gets every stream that the edge opens, as on the native carrier.
    """

    alpn = ALPN_H2

    def __init__(self, caller: Caller, host: bytes, limits: IntakeLimits, on_stream: OnStream) -> None:
        self.caller = caller
        self.host = host
        self.heads = ReplyHeads(caller)
        self.limits = limits
        self.exchanges: set[Exchange] = set()
        self.unknown = 0
        self.on_stream = on_stream
        self._loop = asyncio.get_running_loop()
        self._sessions: list[IntakeSession] = []  # that are connected; the youngest of the welcomed last
        self._welcomed: list[IntakeSession] = []
        self._waiting: list[tuple[Call, float]] = []  # and until when
        self._clock: asyncio.TimerHandle | None = None

    def begin(self, ear: Ear) -> Opening:
        session = IntakeSession(self, ear)
        self._sessions.append(session)
        if self._clock is None:
            self._clock = self._loop.call_later(TICK_SECONDS, self._tick)
        return Opening(session, session, session.hello)

    # House

    def websocket_key(self) -> bytes:
        return base64.b64encode(os.urandom(16))

    def began(self, session: IntakeSession) -> None:
        self._welcomed.append(session)
        waiting, self._waiting = self._waiting, []
        for call, _ in waiting:
            session.open_for(call)

    def over(self, session: IntakeSession) -> None:
        self._sessions.remove(session)
        if session in self._welcomed:
            self._welcomed.remove(session)

    def is_replaced(self, session: IntakeSession) -> bool:
        return session in self._welcomed and self._welcomed[-1] is not session

    def hand_over(self, call: Call) -> None:
        if self._welcomed and self._welcomed[-1].takes_calls:
            self._welcomed[-1].open_for(call)
        else:
            self._waiting.append((call, self._loop.time() + HAND_OVER_SECONDS))

    # The clock

    def _tick(self) -> None:
        self._clock = None
        try:
            self._look(self._loop.time())
        finally:  # whatever an upstream makes of what it is told
            if self._sessions or self.exchanges or self._waiting:
                self._clock = self._loop.call_later(TICK_SECONDS, self._tick)

    def _look(self, now: float) -> None:
        for session in list(self._sessions):
            session.tick(now)
        for exchange in [one for one in self.exchanges if 0 < one.due <= now]:
            exchange.late()
        late = [call for call, until in self._waiting if until <= now]
        self._waiting = [(call, until) for call, until in self._waiting if until > now]
        for call in late:
            call.given_up()
