"""The source of the event stream: ``python -m bench.events PORT``; one event at once, then one every 25 ms.

Each event is the moment it was written, in nanoseconds of the machine's monotonic clock, so that a reader
on the same machine can tell how long it was under way.
"""

from __future__ import annotations

import asyncio
import sys
import time

INTERVAL_SECONDS = 0.025
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class Source(asyncio.Protocol):
    """One reader; any request is answered with the stream."""

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._timer is None:
            self._transport.write(_HEAD)
            self._emit()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _emit(self) -> None:
        event = b"data: %d\n\n" % time.monotonic_ns()
        self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._emit)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Source, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
