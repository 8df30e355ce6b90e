"""What a visitor asks an application on a sandbox's port for: byte for byte as it was asked, on every leg."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.kit.fronts import Front
from tests.kit.harbour import Harbour
from tests.kit.hosted import NEEDED
from tests.kit.http2_raw import raw_visiting
from tests.kit.upstreams import Peer
from tests.kit.visitors import request, visiting
from tests.system.test_http import echo, fields

pytestmark = [*NEEDED, pytest.mark.timeout(120)]

TARGETS = [
    "/a%2Fb", "/%2F", "/%2f%2F/", "/a//b", "//", "//a//b//", "/./", "/a/./b", "/a/../b", "/..", "/../../etc",
    "/%2e%2e/%2E%2E/", "/a/", "/a", "/?", "/a?", "/a?b", "/?a=1&&b=%20+&=", "/a?b?c", "/a;b=c;d", "/a:b",
    "/@a", "/%00%0d%0a", "/%", "/%zz", "/\\a\\..\\b", "/{a}|^`", "/a'b\"c<d>", "/~a!$&'()*+,;=:@-._",
    "/proxy/cl-a/1/", "/https://example.com/a?b=http://c", "/a?wellhead=1&wellhead_links=2&x_wellhead_link=3",
    "/" + "a" * 8100,
    "/?" + "a=%2F&" * 1300, "/\u00fc\u00df",
]  # fmt: skip
OPENLY = [  # what only who forges it would send
    ("wellhead-port", "cl-other/22"), ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "gopher"), ("x-forwarded-prefix", "/evil"), ("forwarded", "for=6.6.6.6"),
    ("x-real-ip", "6.6.6.6"), ("x-request-id", "chosen"), ("proxy", "http://evil.example"),
]  # fmt: skip


@pytest.fixture
def front(harbour: Harbour) -> Front:
    return harbour.front()


async def recorder(peer: Peer) -> None:
    """Answer with the request line."""
    while head := await peer.request():
        await peer.reply(head.partition(b"\r\n")[0])


async def test_targets_arrive_byte_for_byte(front: Front, leg: str) -> None:
    async with front.serving(recorder), visiting(front.edge, front.sni(leg)) as visitor:
        for target in TARGETS:
            reply = await visitor.get(target, front.host(leg))
            assert reply.body == f"GET {target} HTTP/1.1".encode("latin-1")


async def test_targets_arrive_byte_for_byte_from_http2(front: Front) -> None:
    async with front.serving(recorder), raw_visiting(front.edge, front.hostname) as visitor:
        for target in TARGETS:
            stream = visitor.ask(front.hostname, path=target)
            assert await visitor.body(stream, 10_000) == f"GET {target} HTTP/1.1".encode()


async def test_forged_fields_reach_nobody(front: Front, leg: str) -> None:
    lines = [f"{name.title()}: {value}" for name, value in OPENLY]
    async with front.serving(echo), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(request("/", front.host(leg), "Connection: Wellhead-Port, Host", *lines))
        _is_ours((await visitor.reply()).body, front, leg)


async def test_forged_fields_reach_nobody_from_http2(front: Front) -> None:
    async with front.serving(echo), raw_visiting(front.edge, front.hostname) as visitor:
        stream = visitor.ask(front.hostname, "GET", *OPENLY)
        _is_ours(await visitor.body(stream, 100_000), front, "tls")


def _is_ours(head: bytes, front: Front, leg: str) -> None:
    seen = fields(head)
    assert seen["host"] == [f"localhost:{front.port}"]
    assert seen["x-forwarded-for"] == ["127.0.0.1"]
    assert seen["x-forwarded-host"] == [front.host(leg)]
    assert seen["x-forwarded-proto"] == ["https" if leg == "tls" else "http"]
    for each in (b"6.6.6.6", b"evil", b"gopher", b"chosen", b"cl-other"):
        assert each not in head
    assert not {"wellhead-port", "x-real-ip", "proxy", "x-forwarded-prefix"} & seen.keys()


@pytest.mark.parametrize("name", ["Wellhead_Port", "X_Forwarded_For", "X_Forwarded_Host", "X_Real_IP"])
async def test_what_only_looks_like_a_field_of_ours_is_refused(front: Front, leg: str, name: str) -> None:
    asked: list[bytes] = []

    async def app(peer: Peer) -> None:
        asked.append(await peer.request())
        await peer.reply()

    async with front.serving(app), visiting(front.edge, front.sni(leg)) as visitor:
        reply = await visitor.get("/", front.host(leg), f"{name}: cl-other/22")
    assert reply.status == 400 and not asked


async def test_no_trailer_says_for_which_port_it_was(front: Front, leg: str) -> None:
    got: list[bytes] = []

    async def app(peer: Peer) -> None:
        await peer.request()
        got.extend(await peer.chunked())
        await peer.reply()

    async with front.serving(app), visiting(front.edge, front.sni(leg)) as visitor:
        head = request("/", front.host(leg), "Transfer-Encoding: chunked", "TE: trailers", method="POST")
        body = b"1\r\nx\r\n0\r\nWellhead-Port: cl-other/22\r\nX-Sum: 1\r\n\r\n"
        await visitor.send(head, body)
        assert (await visitor.reply()).status == 200
    assert b"wellhead" not in got[1].lower() and b"x-sum" in got[1].lower()


@pytest.mark.needs("curl")
def test_a_directory_listing_redirects_to_itself_and_no_further(harbour: Harbour, tmp_path: Path) -> None:
    """The walk through of the reference: a slash that was eaten on the way made this a loop."""
    api, sandbox = harbour.api, harbour.sandbox
    api.run(sandbox, "sh", "-c", "mkdir -p 'site/files/a b'; echo text > 'site/files/a b/one.txt'")
    program = {"argv": ["python3", "-m", "http.server", "-d", "site", "8000"], "background": True}
    api.ask("POST", f"/sandboxes/{sandbox}/exec", 202, json=program)
    url = f"https://{harbour.hostname(8000)}:{harbour.edge.https}"
    curl = ["curl", "-sSL", "--max-time", "20", "--noproxy", "*", "--cacert", str(harbour.edge.ca)]
    told = ["-o", str(tmp_path / "out"), "-w", "%{http_code} %{num_redirects} %{url_effective}"]
    for path, landed, content in (
        ("/files?x=1", "/files/?x=1", "a%20b/"),
        ("/files/a%20b", "/files/a%20b/", "one.txt"),
        ("/files/a%20b/one.txt", "/files/a%20b/one.txt", "text"),
    ):
        done = subprocess.run([*curl, *told, url + path], capture_output=True, text=True, timeout=30)
        assert done.stdout == f"200 {int(path != landed)} {url}{landed}", done.stderr
        assert content in (tmp_path / "out").read_text()
