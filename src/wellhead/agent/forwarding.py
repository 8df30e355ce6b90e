"""What answers a tunnel's streams: an upstream at an address, or an application in this process."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from wellhead.agent.options import Options, as_path
from wellhead.errors import InputError
from wellhead.net.upstream import UpstreamPool
from wellhead.net.upstream_address import parse_upstream
from wellhead.net.upstream_dial import upstream_contexts
from wellhead.net.upstream_exchange import Exchange
from wellhead.wire.streams import Buffer, Stream, StreamKind

if TYPE_CHECKING:
    from wellhead.inprocess.upstream import Answerer


class Upstream(Protocol):
    """Where streams go, for as long as one listener lives."""

    def accept(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Take a stream that the edge opened, with the first bytes beside its envelope."""

    def tell(self, exchange: Exchange, failure: str) -> None:
        """A request is over that did not get here."""

    def drain(self) -> None:
        """The listener is being closed: what would not end by itself is ended."""

    async def aclose(self) -> None:
        """Give up what is running."""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """``label`` is what a made-up name is remembered by, ``raw`` whether visitors' TLS ends behind it.

    ``make`` gives an upstream, after ``answerer`` (of an application) was started.
    """

    label: str
    raw: bool
    make: Callable[[], Upstream]
    answerer: Answerer | None = None
    told: list[str] = field(default_factory=list)  # the tunnel's name, once it is known

    async def start(self) -> None:
        """
        Raises:
            HandlerError: the application cannot start.
        """
        if self.answerer is not None:
            await self.answerer.start()

    async def stop(self) -> None:
        """After the last request. Idempotent."""
        if self.answerer is not None:
            await self.answerer.stop()


def forwarding(options: Options) -> Forwarding:
    """
    Raises:
        InputError: neither an address nor anything that answers, or options that do not go with it.
    """
    if isinstance(options.forward_to, str | int):
        made = _to_address(options, options.forward_to)
    else:
        made = _to_application(options)
    return made if options.label is None else replace(made, label=options.label)


def _to_application(options: Options) -> Forwarding:
    # Loaded here: who forwards to an address needs none of it, and starts sooner.
    from wellhead.inprocess.detect import answerer_of, label_of

    told: list[str] = []
    answerer = answerer_of(
        options.forward_to, options.interface, options.ws_handler, tunnel=lambda: "".join(told)
    )
    return Forwarding(label_of(options.forward_to), False, _in_process(options, answerer), answerer, told)


def _in_process(options: Options, answerer: Answerer) -> Callable[[], Upstream]:
    from wellhead.inprocess.upstream import InProcess

    return functools.partial(
        InProcess,
        answerer,
        limits=options.limits,
        max_body_bytes=options.max_body_bytes,
        on_exchange=options.on_request,
    )


def _to_address(options: Options, address: str | int) -> Forwarding:
    if options.interface != "auto":
        raise InputError(f"interface is for applications; {address} is an address")
    if options.max_body_bytes is not None:
        raise InputError(f"max_body_bytes is for applications; {address} is an address")
    upstream = parse_upstream(address, options.upstream_http)
    contexts = upstream_contexts(
        upstream, ca_file=as_path(options.upstream_ca_file), verify=options.verify_upstream
    )
    make = functools.partial(
        UpstreamPool,
        upstream,
        ssl_context=contexts.http1,
        h2_context=contexts.http2,
        host_header=options.host_header,
        limits=options.limits,
        on_exchange=options.on_request,
    )
    if options.ws_handler is None:
        return Forwarding(str(upstream), upstream.raw, make)
    if upstream.raw:
        raise InputError(f"upstream {upstream} ends visitors' TLS itself: no ws_handler can hear them")
    from wellhead.inprocess.conversation import Conversations

    told: list[str] = []
    answerer = Conversations(options.ws_handler, tunnel=lambda: "".join(told))
    speak = _in_process(options, answerer)
    return Forwarding(str(upstream), False, lambda: _Beside(make(), speak()), answerer, told)


class _Beside:
    """WebSockets to one upstream, and the rest to another."""

    def __init__(self, rest: Upstream, websockets: Upstream) -> None:
        self._rest = rest
        self._websockets = websockets

    def accept(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        upstream = self._websockets if kind is StreamKind.WEBSOCKET else self._rest
        upstream.accept(stream, kind, envelope, data, end)

    def tell(self, exchange: Exchange, failure: str) -> None:
        self._rest.tell(exchange, failure)

    def drain(self) -> None:
        self._rest.drain()
        self._websockets.drain()

    async def aclose(self) -> None:
        await asyncio.gather(self._rest.aclose(), self._websockets.aclose())
