"""HTTP/2 at visitors' names, in the words of others' clients: curl, nghttp2's tools, httpx, a browser."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.kit import bulk_server
from tests.kit.browser import CHROMIUM, browsing, http2_heads, logging_net
from tests.kit.fronts import Front
from tests.kit.http2_raw import raw_visiting
from tests.kit.programs import Agent, Edge, Program, quiet_port
from tests.kit.upstreams import Peer, serving
from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SIZE = 100_000_000
Run = tuple[int, str, str]  # exit code, stdout, stderr


async def run(*command: str, seconds: float = 40) -> Run:
    """A program to its end."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def curl(edge: Edge, hostname: str, *flags: str) -> list[str]:
    """A command line; ``{}`` in the flags is the public origin."""
    origin = f"https://{hostname}:{edge.https}"
    return [
        "curl", "-sS", "--cacert", str(edge.ca), "--connect-to", f"::127.0.0.1:{edge.https}",
        *(flag.replace("{}", origin) for flag in flags),
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def client(front: Front, hostname: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client that speaks HTTP/2 and nothing else, on one connection."""
    async with httpx.AsyncClient(
        http1=False, http2=True, verify=front.edge.trust(), trust_env=False, timeout=30,
        base_url=f"https://127.0.0.1:{front.edge.https}",
        headers={"Host": hostname or front.host("tls")},
        limits=httpx.Limits(max_connections=1),
    ) as made:  # fmt: skip
        yield made


def sni(front: Front) -> dict[str, str]:
    return {"sni_hostname": front.hostname}


async def echo(peer: Peer) -> None:
    """Answer every request with its own head and body."""
    while head := await peer.request():
        found = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
        await peer.reply(head + (await peer.body(int(found[1])) if found else b""))


@pytest.fixture
def bulk(house: House) -> Iterator[Agent]:
    """An agent of the server of bulk bytes."""
    with Program([sys.executable, bulk_server.__file__]) as server:
        with house.edge.agent(server.line(r"^port (\d+)$")[1]) as agent:
            yield agent


@pytest.mark.needs("curl")
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_curl_sees_the_same_in_both_versions(front: Front, version: str) -> None:
    async with front.serving(echo):
        code, out, err = await run(
            *curl(front.edge, front.hostname, f"--http{version}", "-d", "a body", "-b", "a=1; b=2"),
            *("-w", "\n%{http_version} %{http_code}", f"https://{front.host('tls')}/a%2Fb?c"),
        )  # fmt: skip
    assert code == 0, err
    *head, body = out.rpartition("\n")[0].split("\r\n")
    assert out.endswith(f"\n{version} 200")
    assert head[0] == "POST /a%2Fb?c HTTP/1.1" and body == "a body"
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
    assert fields["cookie"] == "a=1; b=2" and fields["content-length"] == "6"
    assert fields["x-forwarded-host"] == front.host("tls") and fields["x-forwarded-proto"] == "https"


@pytest.mark.needs("curl")
@pytest.mark.slow
async def test_a_hundred_megabytes_arrive_unharmed_both_ways(
    house: House, bulk: Agent, tmp_path: Path
) -> None:
    digest = hashlib.sha256()
    with (tmp_path / "sent").open("wb") as file:
        for block in bulk_server.blocks(SIZE):
            digest.update(block)
            file.write(block)
    down = curl(house.edge, bulk.hostname, "--http2", "-o", str(tmp_path / "got"), f"{{}}/bytes/{SIZE}")
    up = curl(house.edge, bulk.hostname, "--http2", "-T", str(tmp_path / "sent"), "{}/hash")
    house.edge.forget_peak()
    before = house.edge.memory()[0]
    (code, _, err), (code_up, out, err_up) = await asyncio.gather(run(*down), run(*up))
    assert (code, code_up) == (0, 0), err + err_up
    assert hashlib.sha256((tmp_path / "got").read_bytes()).digest() == digest.digest()
    assert out == digest.hexdigest()
    assert house.edge.memory()[1] - before < 32 << 20, "bodies are not collected"


@pytest.mark.needs("h2load")
async def test_h2load_loses_no_request(front: Front) -> None:
    async def small(peer: Peer) -> None:
        while await peer.request():
            await peer.reply(b"hello")

    async with front.serving(small):
        code, out, err = await run(
            "h2load", "-n2000", "-c4", "-m25", f"--connect-to=127.0.0.1:{front.edge.https}",
            f"https://{front.host('tls')}/",
        )  # fmt: skip
    assert code == 0, err
    assert "2000 succeeded, 0 failed, 0 errored" in out and "2000 2xx" in out, out
    assert "Application protocol: h2" in out


@pytest.mark.needs("nghttp")
async def test_nghttp_finds_the_control_plane_without_a_name(house: House) -> None:
    code, out, err = await run("nghttp", "-nv", "-y", f"https://127.0.0.1:{house.edge.https}/api/v1/health")
    assert code == 0, err
    assert re.search(r":status: (200|404|401)", out) and "SETTINGS_ENABLE_CONNECT_PROTOCOL" in out, out


async def test_events_arrive_one_by_one(front: Front) -> None:
    seen = asyncio.Semaphore(0)

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(50):
            await peer.say(b"data: %d\n\n" % number)
            await seen.acquire()

    async with front.serving(upstream), client(front) as visitor:
        async with visitor.stream("GET", "/events", extensions=sni(front)) as reply:
            assert reply.http_version == "HTTP/2"
            number = 0
            async for event in reply.aiter_raw():
                assert event == b"data: %d\n\n" % number
                number += 1
                seen.release()
    assert number == 50


async def test_an_upload_and_its_reply_run_at_the_same_time(front: Front) -> None:
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await peer.reader.readline(), 16):
            piece = (await peer.body(size + 2))[:-2]
            await peer.say(b"%x\r\n%b\r\n" % (size, piece.upper()))
        await peer.say(b"0\r\n\r\n")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        assert await answers.get() == b"ONE"
        yield b"two"
        assert await answers.get() == b"TWO"

    async with front.serving(upstream):
        async with raw_visiting(front.edge, front.hostname) as raw:
            stream = raw.ask(front.hostname, "POST", end=False)
            async for piece in pieces():
                raw.h2.send_data(stream, piece)
                answers.put_nowait(await raw.body(stream, len(piece)))
            raw.h2.end_stream(stream)
            assert await raw.body(stream, 1) == b""


async def test_a_stalled_stream_holds_up_none_of_ninety_nine(front: Front) -> None:
    async def upstream(peer: Peer) -> None:
        while head := await peer.request():
            if head.startswith(b"GET /bulk "):
                await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
                for _ in range(50):
                    await peer.say(bytes(1_000_000))
            else:
                await peer.reply(head.split(b" ")[1])

    before = front.edge.memory()[0]
    async with front.serving(upstream), client(front) as visitor:
        async with visitor.stream("GET", "/bulk", extensions=sni(front)) as stalled:
            assert stalled.status_code == 200
            for _ in range(3):
                async with asyncio.timeout(10):
                    replies = await asyncio.gather(
                        *(visitor.get(f"/{number}", extensions=sni(front)) for number in range(99))
                    )
                assert [reply.text for reply in replies] == [f"/{number}" for number in range(99)]
            assert front.edge.memory()[0] - before < 16 << 20, "what nobody reads is not collected"


async def test_a_name_of_another_tunnel_is_misdirected_and_the_connection_lives(front: Front) -> None:
    async with front.serving(echo), client(front) as visitor:
        names = (front.host("tls"), f"other.localhost:{front.edge.https}", front.host("tls"))
        replies = [await visitor.get("/", headers={"Host": name}, extensions=sni(front)) for name in names]
        streams = {reply.extensions["network_stream"] for reply in replies}
    assert [reply.status_code for reply in replies] == [200, 421, 200]
    assert len(streams) == 1


async def test_trailers_and_early_hints_reach_the_visitor(front: Front) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
        )

    async with front.serving(upstream):
        code, out, err = await run(*curl(front.edge, front.hostname, "--http2", "-i", "{}/"))
    assert code == 0, err
    assert "HTTP/2 103" in out and "link: </a.css>" in out and out.replace("\r", "").endswith("hix-sum: 1\n")


async def test_a_body_shorter_than_it_said_is_never_whole_at_the_upstream(front: Front) -> None:
    begun = asyncio.Event()
    seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        begun.set()
        seen.set_result(await peer.closed())

    async with front.serving(upstream):
        async with raw_visiting(front.edge, front.hostname) as raw:
            stream = raw.ask(front.hostname, "POST", ("content-length", "10"), end=False)
            raw.say()
            async with asyncio.timeout(5):
                await begun.wait()
            raw.h2.send_data(stream, b"12345", end_stream=True)
            await raw.until_reset(stream)
            async with asyncio.timeout(5):
                assert b"12345".startswith(await seen), "cut off"


@pytest.mark.needs("curl")
async def test_a_drain_amid_requests_loses_none(tmp_path: Path) -> None:
    go, count = asyncio.Event(), 10
    waiting = asyncio.Semaphore(0)

    async def upstream(peer: Peer) -> None:
        while await peer.request():
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            waiting.release()
            await go.wait()
            await peer.say(b" last")

    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port) as agent:
        async with serving(upstream, port=port):
            asking = asyncio.create_task(
                run(*curl(edge, agent.hostname, "--http2", "-Z", *["{}/"] * count), seconds=20)
            )
            for _ in range(count):
                await waiting.acquire()
            edge.signal(signal.SIGTERM)
            await asyncio.to_thread(edge.line, "draining")
            go.set()
            code, out, err = await asking
        assert code == 0 and len(out) == 10 * count, err
        assert out.count("first") == out.count(" last") == count
        assert await asyncio.to_thread(edge.wait) == 0


PAGE = b"""<!doctype html><title>asking</title><script>
const socket = new WebSocket(`wss://${location.host}/ws`);
socket.onopen = () => socket.send("hello");
socket.onmessage = event => { document.title = event.data; socket.close(1000); };
socket.onclose = event => { document.body.textContent = `${event.code} ${event.wasClean}`; };
</script><body></body>"""


@pytest.mark.needs(CHROMIUM)
@pytest.mark.slow
async def test_a_browser_speaks_http2_and_opens_websockets_in_it(front: Front, tmp_path: Path) -> None:
    async def shout(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(str(message).upper())

    def page(connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/ws":
            return None
        fields = Headers({"Content-Type": "text/html", "Content-Length": str(len(PAGE))})
        return Response(200, "OK", fields, PAGE)

    log = tmp_path / "net.json"
    async with serve(shout, sock=front.listening(), process_request=page):
        title, hop, end = await asyncio.to_thread(_browse, front, tmp_path / "profile", log)
    assert (title, hop, end) == ("HELLO", "h2", "1000 true")
    sent = http2_heads(log)
    assert any(":path: /" in line and ":protocol" not in line for line in sent), "the page"
    assert any(":protocol: websocket" in line for line in sent), "the WebSocket"


def _browse(front: Front, profile: Path, log: Path) -> tuple[str, str, str]:
    """The title of the page, what its connection spoke, and how the WebSocket ended."""
    with browsing(front.edge, profile, front.hostname, *logging_net(log)) as browser:
        tab = browser.new_page()
        tab.goto(front.url)
        tab.wait_for_function("document.title == 'HELLO' && document.body.textContent")
        hop = tab.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        return tab.title(), str(hop), tab.inner_text("body")
