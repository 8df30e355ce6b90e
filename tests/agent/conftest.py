"""A server in a thread of its own, and the connections of a test to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

import httpx
import pytest

from tests.kit.upstreams import PATIENCE
from wellhead.client import Client
from wellhead.model.access import Secret
from wellhead.net.tls import client_context
from wellhead.serve import Ready, serve
from wellhead.settings import ServerSettings


class Reach(TypedDict):
    """Arguments of ``connect`` that say which server and which state."""

    url: str
    api_key: Secret
    ca_file: Path
    state_dir: Path


@dataclass
class House:
    """A running server."""

    url: str
    key: Secret
    ca_file: Path

    def client(self) -> Client:
        return Client(self.url, self.key, ca_file=self.ca_file)

    def options(self, home: Path) -> Reach:
        """How to reach it, with a state directory of the test's."""
        return {"url": self.url, "api_key": self.key, "ca_file": self.ca_file, "state_dir": home}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    opened: Future[tuple[Ready, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    directory = tmp_path_factory.mktemp("house")
    settings = ServerSettings(
        data_dir=directory / "server", https="127.0.0.1:0", http="127.0.0.1:0", access_log="off",
        drain_seconds=1.0,
    )  # fmt: skip

    async def run() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        await serve(settings, ready=lambda ready: opened.set_result((ready, loop, stop)), stop=stop)

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    thread = threading.Thread(target=main, name="house")
    thread.start()
    ready, loop, stop = opened.result(30)
    assert ready.key is not None and ready.ca_file is not None
    yield House(ready.api.removesuffix("/api/v1"), ready.key, ready.ca_file)
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


def visit(public_url: str, house: House, path: str = "/") -> httpx.Response:
    """A request of a visitor, without asking a resolver for the name."""
    parts = urlsplit(public_url)
    with httpx.Client(
        verify=client_context(ca_file=house.ca_file), timeout=PATIENCE, trust_env=False
    ) as client:
        return client.get(
            f"{parts.scheme}://127.0.0.1:{parts.port}{path}",
            headers={"Host": parts.netloc},
            extensions={"sni_hostname": parts.hostname},
        )
