"""Connecting to a port of a sandbox, again and again while what is to listen there may be coming up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from wellhead.errors import DialError, HostError, NothingListens
from wellhead.host.port_terms import PortTerms
from wellhead.host.runtime.runtime import Runtime
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxId
from wellhead.wire.streams import Reason

FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.04  # what begins to listen is reached within 50 ms
ONCE_MORE_SECONDS = 0.02  # after which a port on which nothing is awaited is tried a second time
CLOCK_SECONDS = 0.001  # how exact the loop's timers are

_log = Log("wellhead.host")


class PortDialler:
    """Connects to one port of one sandbox. ``may_come``: whether something may begin to listen soon."""

    def __init__(
        self,
        runtime: Runtime,
        sandbox: SandboxId,
        port: int,
        terms: PortTerms,
        may_come: Callable[[], bool],
    ) -> None:
        self._runtime = runtime
        self._sandbox = sandbox
        self._port = port
        self._terms = terms
        self._may_come = may_come
        self._scouted: asyncio.Event | None = None  # one of many dials tries again: the others wait for it

    async def dial(self, protocol: asyncio.Protocol, http2: bool) -> Reason | None:
        """See ``Dial``. HTTP/2 is not spoken here."""
        try:
            sock = await self._reached()
        except NothingListens:
            return Reason.UPSTREAM_UNREACHABLE
        except TimeoutError:
            _log.info("port does not accept", sandbox=self._sandbox, port=self._port)
            return Reason.TIMEOUT
        except DialError as error:
            _log.info("port not reached", sandbox=self._sandbox, port=self._port, error=error)
            return Reason.UPSTREAM_FAILED
        except HostError:  # the sandbox has just ended
            return Reason.REFUSED
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
        return None

    async def _reached(self) -> socket.socket:
        give_up = None
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._tried()
            except NothingListens:
                now = asyncio.get_running_loop().time()
                if give_up is None:
                    awaited = self._may_come()
                    give_up = now + (self._terms.retry_seconds if awaited else ONCE_MORE_SECONDS)
                    pause = FIRST_PAUSE_SECONDS if awaited else ONCE_MORE_SECONDS
                elif now >= give_up:
                    raise
            if self._scouted is not None:
                await self._scouted.wait()
            else:
                return await self._scout(give_up, pause)

    async def _scout(self, give_up: float, pause: float) -> socket.socket:
        """Try again until it is reached or the time has come, for all who wait for it."""
        loop = asyncio.get_running_loop()
        over = self._scouted = asyncio.Event()
        try:
            while True:
                left = give_up - loop.time()
                await asyncio.sleep(min(pause, left))
                try:
                    return await self._tried()
                except NothingListens:
                    if left <= pause + CLOCK_SECONDS:
                        raise
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        finally:
            self._scouted = None
            over.set()

    async def _tried(self) -> socket.socket:
        async with asyncio.timeout(self._terms.dial_seconds):
            return await self._runtime.connect_port(self._sandbox, self._port)
