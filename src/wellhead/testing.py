"""A pytest plugin: a real public URL for an app under test, with a server of its own on this machine.

>>> def test_a_webhook(tunnel):
...     url = tunnel(app)                       # ASGI, WSGI, a handler, or a port
...     assert httpx.post(url + "/hook", json={"event": "paid"}).status_code == 204

The server starts with the first test that asks for it. Names under ``localhost`` lead to this machine in the
tests' process, whatever the system's resolver thinks of them (RFC 6761 section 6.3).
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # loaded when a test asks for it: every run of pytest loads plugins
    from wellhead.agent import TunnelListener
    from wellhead.serve import Ready

__all__ = ["Tunnels", "tunnel", "wellhead_server"]


class Tunnels:
    """What the fixture ``tunnel`` gives: call it with what answers, get the URL it is answered at."""

    def __init__(self, server: Ready, state_dir: Path) -> None:
        self.listeners: list[TunnelListener] = []
        self._server = server
        self._state_dir = state_dir

    @property
    def ca_file(self) -> Path:
        """Whom to trust for ``tls=True``: ``httpx.get(url, verify=tunnel.ca_file)``."""
        assert self._server.ca_file is not None
        return self._server.ca_file

    def __call__(self, forward_to: Any, *, tls: bool = False, **options: Any) -> str:
        """The URL at which ``forward_to`` is answered until the test is over, without a slash at its end.

        ``tls``: an ``https`` one, whose certificate is of ``ca_file``. ``options`` are those of
        ``wellhead.connect``.

        Raises:
            WellheadError: as ``wellhead.connect``.
        """
        from wellhead import connect
        from wellhead.model.names import suggest

        server = self._server
        options.setdefault("name", suggest())
        listener = connect(
            forward_to,
            url=server.api.removesuffix("/api/v1"),
            api_key=server.key,
            ca_file=server.ca_file,
            state_dir=self._state_dir,
            print_secret=False,
            **options,
        )
        self.listeners.append(listener)
        scheme = "https://" if tls else "http://"
        return next(url for url in listener.public_urls if url.startswith(scheme)).rstrip("/")

    def close(self) -> None:
        """Close every tunnel, the youngest first."""
        while self.listeners:
            self.listeners.pop().close()


@pytest.fixture(scope="session")
def wellhead_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    """A server for the whole run, in a thread: its addresses, its key and its authority."""
    home = tmp_path_factory.mktemp("wellhead")
    with _resolving(), _Running(home) as ready:
        yield ready


@pytest.fixture
def tunnel(wellhead_server: Ready, tmp_path: Path) -> Iterator[Tunnels]:
    """Gives a URL to whatever answers: ``tunnel(app) -> url``."""
    tunnels = Tunnels(wellhead_server, tmp_path / "wellhead")
    try:
        yield tunnels
    finally:
        tunnels.close()


class _Running:
    """The server's thread and loop."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._ready: Future[Ready] = Future()
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="wellhead-server", daemon=True)

    def __enter__(self) -> Ready:
        self._thread.start()
        return self._ready.result()

    def __exit__(self, *error: object) -> None:
        self._stop()
        self._thread.join()

    def _run(self) -> None:
        from wellhead.net import loop

        try:
            with asyncio.Runner(loop_factory=loop.loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        from wellhead.embedded import embedded

        running, over = asyncio.get_running_loop(), asyncio.Event()
        self._stop = lambda: running.call_soon_threadsafe(over.set)
        async with embedded(self._home) as ready:
            self._ready.set_result(ready)
            await over.wait()


class _resolving:
    """Has names under ``localhost`` resolved to 127.0.0.1, in this process."""

    def __enter__(self) -> None:
        self._before = before = socket.getaddrinfo

        def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
            name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
            ours = isinstance(name, str) and name.lower().rstrip(".").endswith(".localhost")
            return before("127.0.0.1" if ours else host, *rest, **named)

        socket.getaddrinfo = getaddrinfo

    def __exit__(self, *error: object) -> None:
        socket.getaddrinfo = self._before
