from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.kit.certs import authority, trusting
from tests.kit.talk import Talk, tls_server
from wellhead.errors import DialError, SettingsError
from wellhead.net.dialling import dial_tls
from wellhead.net.proxy import Proxy, proxy_for

BOTH_LOOPS = True
PROXY = {"HTTPS_PROXY": "http://proxy.example:3128"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://proxy.example:3128", Proxy("proxy.example", 3128)),
        ("proxy.example:3128", Proxy("proxy.example", 3128)),
        ("http://proxy.example/", Proxy("proxy.example", 80)),
        ("http://[2001:db8::1]:3128", Proxy("2001:db8::1", 3128)),
        ("http://user:p%40ss@proxy.example:1", Proxy("proxy.example", 1, b"Basic dXNlcjpwQHNz")),
        ("http://user@proxy.example:1", Proxy("proxy.example", 1, b"Basic dXNlcjo=")),
    ],
)
def test_a_proxy_url_is_read(value: str, expected: Proxy) -> None:
    assert proxy_for("edge.example", 443, {"HTTPS_PROXY": value}) == expected


@pytest.mark.parametrize(
    "environ",
    [
        {"https_proxy": "http://a", "HTTPS_PROXY": "http://b"},
        {"ALL_PROXY": "http://a"},
        {"all_proxy": "http://a"},
    ],
)
def test_lower_case_wins_and_all_proxy_is_the_last_resort(environ: Mapping[str, str]) -> None:
    assert proxy_for("edge.example", 443, environ) == Proxy("a", 80)


@pytest.mark.parametrize(
    "value", ["https://proxy.example", "socks5://a:1", "http://", "http://a:b", "http://[::1"]
)
def test_a_proxy_that_is_no_http_url_is_an_error_that_does_not_repeat_it(value: str) -> None:
    with pytest.raises(SettingsError, match="HTTPS_PROXY") as caught:
        proxy_for("edge.example", 443, {"HTTPS_PROXY": value.replace("//", "//user:hunter2@", 1)})
    assert "hunter2" not in str(caught.value)


def test_a_proxys_password_is_not_in_its_repr() -> None:
    assert "dXNl" not in repr(proxy_for("a", 1, {"HTTPS_PROXY": "http://user:pass@p"}))


@pytest.mark.parametrize(
    ("exceptions", "host"),
    [
        ("*", "edge.example"),
        ("edge.example", "edge.example"),
        ("edge.example", "EDGE.example."),
        ("example", "edge.example"),
        (".example", "edge.example"),
        ("*.example", "edge.example"),
        ("other, edge.example", "edge.example"),
        ("other edge.example", "edge.example"),
        ("edge.example:443", "edge.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.0/24", "192.0.2.7"),
        ("2001:db8::/32", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
    ],
)
def test_no_proxy_excepts_a_destination(exceptions: str, host: str) -> None:
    assert proxy_for(host, 443, PROXY | {"NO_PROXY": exceptions}) is None


@pytest.mark.parametrize(
    ("exceptions", "host"),
    [
        ("", "edge.example"),
        ("dge.example", "edge.example"),
        ("edge.example.org", "edge.example"),
        ("edge.example:8443", "edge.example"),
        ("192.0.3.0/24", "192.0.2.7"),
        (".", "edge.example"),
        ("a/b/c", "edge.example"),
    ],
)
def test_no_proxy_excepts_nothing_else(exceptions: str, host: str) -> None:
    assert proxy_for(host, 443, PROXY | {"NO_PROXY": exceptions}) is not None


@contextlib.asynccontextmanager
async def connect_proxy(
    target: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A proxy that takes every CONNECT to one local port: its own port, and the heads it was sent."""
    heads: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if b" 200 " not in answer:
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_tls_runs_inside_the_tunnel_and_the_name_is_resolved_by_the_proxy(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with (
        tls_server(ca.leaf_context("edge.invalid")) as (target, _),
        connect_proxy(target) as (port, heads),
    ):
        transport, talk = await dial_tls(
            "edge.invalid", 443, context=trusting(ca), protocol_factory=Talk,
            environ={"HTTPS_PROXY": f"http://user:pass@127.0.0.1:{port}"},
        )  # fmt: skip
        assert await talk.hear(7) == b"welcome"
        transport.abort()
        await talk.until("lost")
    assert heads == [
        b"CONNECT edge.invalid:443 HTTP/1.1\r\nHost: edge.invalid:443\r\n"
        b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
    ]


async def test_loopback_is_never_proxied(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with tls_server(ca.leaf_context("a.localhost")) as (target, _):
        transport, _ = await dial_tls(
            "a.localhost", target, context=trusting(ca), protocol_factory=Talk,
            environ={"HTTPS_PROXY": "http://127.0.0.1:1"},
        )  # fmt: skip
        transport.abort()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "user and password"),
        (
            b"HTTP/1.0 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            r"refused a connection to edge\.invalid:443 \(403\)",
        ),
        (b"SSH-2.0-x\r\n\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 503", "closed the connection without an answer"),
        (b"HTTP/1.1 503 " + b"x" * 20000, "more than 16384 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\nsurplus", "before TLS began"),
    ],
)
async def test_a_proxy_that_refuses_or_lies_is_a_dial_error(
    tmp_path: Path, answer: bytes, words: str
) -> None:
    ca = authority(tmp_path)
    async with (
        tls_server(ca.leaf_context("edge.invalid")) as (target, _),
        connect_proxy(target, answer) as (port, _),
    ):
        with pytest.raises(DialError, match=words):
            await dial_tls(
                "edge.invalid", 443, context=trusting(ca), protocol_factory=Talk,
                environ={"HTTPS_PROXY": f"127.0.0.1:{port}"},
            )  # fmt: skip


async def test_a_proxy_that_is_down_is_named(tmp_path: Path) -> None:
    with pytest.raises(DialError, match=r"127\.0\.0\.1:1: connection refused"):
        await dial_tls(
            "edge.invalid", 443, context=trusting(authority(tmp_path)), protocol_factory=Talk,
            environ={"HTTPS_PROXY": "http://127.0.0.1:1"},
        )  # fmt: skip
