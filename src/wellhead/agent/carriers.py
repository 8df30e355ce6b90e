"""Which carriers an agent offers to its edge, and who it says it is on each."""

from __future__ import annotations

from dataclasses import dataclass

from wellhead.agent.intake.carrier import IntakeCarrier
from wellhead.agent.intake.terms import IntakeLimits
from wellhead.errors import InputError
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.net.carrier import Carrier, MuxCarrier, Offer, OnStream
from wellhead.net.tls import ALPN_H2, ALPN_MUX
from wellhead.version import VERSION
from wellhead.wire.intake import API_KEY, SECRET, Caller
from wellhead.wire.messages import OWN_CERTIFICATE, Hello

_AGENT = f"wellhead-python/{VERSION}"
_ALPN = {"auto": (ALPN_MUX, ALPN_H2), "mux": (ALPN_MUX,), "h2": (ALPN_H2,)}
_KEYS = (
    access.API_KEY,
    "ApiKey",
)  # what keys begin with: ours, and those of edges not ours


def alpn_of(carrier: str) -> tuple[str, ...]:
    """What the edge may choose among, the best first; ``carrier``: auto, mux or h2.

    Raises:
        InputError: another word.
    """
    if carrier not in _ALPN:
        raise InputError(f"carrier must be auto, mux or h2, not {carrier!r}")
    return _ALPN[carrier]


@dataclass(frozen=True, slots=True)
class Badge:
    """Who the agent is."""

    zone: str  # the edge's authority
    tunnel: str  # its id, or its name where no more is known
    public_host: str
    credential: Secret  # the tunnel's connect secret, or an API key
    process: str  # random id of this process
    own_certificate: bool  # visitors' TLS ends behind the agent

    def hello(self) -> Hello:
        """For the native carrier."""
        return Hello(
            tunnel=self.tunnel,
            secret=self.credential.reveal(),
            agent=_AGENT,
            session_hint=self.process,
            features=[OWN_CERTIFICATE] if self.own_certificate else [],
        )

    def caller(self) -> Caller:
        """For the HTTP/2 carrier."""
        secret = self.credential.reveal()
        name = API_KEY if secret.partition("_")[0] in _KEYS else SECRET
        return Caller(
            self.zone.encode(), self.tunnel.encode(), (name, secret.encode()), user_agent=_AGENT.encode()
        )


def offer(carrier: str, badge: Badge, limits: IntakeLimits) -> Offer:
    """The carriers of this name."""
    alpn = alpn_of(carrier)

    def made(on_stream: OnStream) -> list[Carrier]:
        carriers: list[Carrier] = []
        if ALPN_MUX in alpn:
            carriers.append(MuxCarrier(badge.hello(), on_stream))
        if ALPN_H2 in alpn:
            host = badge.public_host.encode()
            carriers.append(IntakeCarrier(badge.caller(), host, limits, on_stream))
        return carriers

    return made
