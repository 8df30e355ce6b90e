"""Connecting to a port of a sandbox, again and again while what is to listen there may be coming up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from wellhead.errors import DialError, HostError, NothingListens
from wellhead.host.port_terms import PortTerms
from wellhead.host.runtime.runtime import Runtime
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxId
from wellhead.wire.streams import Reason

FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.04  # what listens is reached within 50 ms
LAST_PAUSE_SECONDS = 0.02  # before the one more try of a port on which nothing is awaited

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

    async def dial(self, protocol: asyncio.Protocol, http2: bool) -> Reason | None:
        """See ``Dial``. HTTP/2 is not spoken here."""
        try:
            async with asyncio.timeout(self._terms.dial_seconds):
                await self._connect(protocol)
        except NothingListens:
            return Reason.UPSTREAM_UNREACHABLE
        except TimeoutError:
            return Reason.TIMEOUT
        except DialError as error:
            _log.info("port not reached", sandbox=self._sandbox, port=self._port, error=error)
            return Reason.UPSTREAM_FAILED
        except HostError:  # it ends meanwhile
            return Reason.REFUSED
        return None

    async def _connect(self, protocol: asyncio.Protocol) -> None:
        loop = asyncio.get_running_loop()
        pauses = self._pauses()
        while True:
            try:
                sock = await self._runtime.connect_port(self._sandbox, self._port)
            except NothingListens:
                if (pause := next(pauses, None)) is None:
                    raise
                await asyncio.sleep(pause)
            else:
                await loop.create_connection(lambda: protocol, sock=sock)
                return

    def _pauses(self) -> Iterator[float]:
        """Between two tries, in seconds."""
        if not self._may_come():
            yield LAST_PAUSE_SECONDS
            return
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._terms.retry_seconds
        pause = FIRST_PAUSE_SECONDS
        while loop.time() + pause <= give_up:
            yield pause
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
