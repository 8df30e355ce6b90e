"""Keys, links and their cookies end at the edge: no application, log, answer or file has them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.harbour import Harbour, harbouring
from tests.kit.hosted import NEEDED
from tests.kit.http2_raw import raw_visiting
from tests.kit.upstreams import Peer
from tests.kit.visitors import Reply, request, visiting

pytestmark = [*NEEDED, pytest.mark.timeout(120)]

PAGE = ("Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none")


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    home = tmp_path_factory.mktemp("secrets") / ".wellhead"
    with harbouring(home, settings={"log_level": "debug", "sandbox_visibility": "private"}) as harbour:
        yield harbour


def link(harbour: Harbour, port: int) -> str:
    """The target of a new link, with its token."""
    made = harbour.api.ask("POST", f"/sandboxes/{harbour.sandbox}/links", 201, json={"port": port})
    found = re.search(r"(/\?wellhead_link=[A-Za-z0-9_-]+)$", made["url"])
    assert found is not None, made
    return found[1]


async def test_what_lets_a_visitor_in_goes_no_further(harbour: Harbour) -> None:
    heads: list[bytes] = []
    mark = harbour.edge.mark()  # behind the line that shows the key, once

    async def app(peer: Peer) -> None:
        while head := await peer.request():
            heads.append(head)
            await peer.reply(head)

    front = harbour.front()
    host, key = front.host("tls"), harbour.edge.key
    target = await asyncio.to_thread(link, harbour, front.port)
    token = target.partition("=")[2]
    answers: list[Reply] = []
    async with front.serving(app), visiting(front.edge, front.hostname) as visitor:
        assert (await visitor.get("/", host)).status == 401
        for fields in (
            [f"X-API-Key: {key}"],
            [f"Authorization: Bearer {key}"],
            [f"x-api-key:{key}", "Authorization: Basic dXNlcjpwYXNz"],
        ):
            answers.append(await visitor.get("/key", host, *fields))
        answers.append(await visitor.get(target, host, "Accept: */*"))
        answers.append(await visitor.get(f"/deep?a=1&{target[2:]}&b=2", host, "Accept: */*"))
        sent_on = await visitor.get(target, host, *PAGE)
        assert sent_on.status == 303 and token not in (sent_on.get("location") or token)
        assert (sent_on.get("cache-control") or "") == "no-store"
        cookie = (sent_on.get("set-cookie") or "").partition(";")[0]
        answers.append(await visitor.get("/cookie", host, f"Cookie: theme=dark; {cookie}; a=b", *PAGE))
        wrong = [await visitor.get("/", host, f"X-API-Key: {key[:-1] + ('A' if key[-1] != 'A' else 'B')}")]
        wrong.append(await visitor.get(target[:-9] + target[-9:].swapcase(), host))
    async with front.serving(app), raw_visiting(front.edge, front.hostname) as raw:
        for fields2, path in (
            ([("x-api-key", key)], "/h2"),
            ([("authorization", f"Bearer {key}")], "/h2"),
            ([("cookie", "a=b"), ("cookie", cookie), ("sec-fetch-site", "same-origin")], "/h2"),
            ([], target),
        ):
            body = await raw.body(raw.ask(front.hostname, "GET", *fields2, path=path), 100_000)
            assert body.startswith(b"GET /")
    assert [answer.status for answer in answers] == [200] * len(answers)
    assert {answer.status for answer in wrong} == {401}
    assert b"GET /deep?a=1&b=2 " in heads[4] and b"theme=dark; a=b" in heads[5]
    assert b"Basic dXNlcjpwYXNz" in heads[2]
    async with visiting(front.edge, front.hostname) as visitor:
        await visitor.get("/last", host)
    await asyncio.to_thread(harbour.edge.line, "target=/last ", after=mark)
    log = "\n".join(harbour.edge.lines[mark:])
    assert "target=/deep" in log
    secrets = [key, token, cookie.partition("=")[2]]
    for secret in secrets:
        assert len(secret) > 20
        for text in (*heads, *(answer.body for answer in [*answers, *wrong, sent_on])):
            assert secret.encode() not in text
        assert secret not in log
    for file in harbour.edge.data.glob("*"):
        if file.is_file() and file.name != "admin-key":
            data = file.read_bytes()
            assert not any(secret.encode() in data for secret in secrets), file


async def test_a_key_does_not_follow_into_a_websocket(harbour: Harbour) -> None:
    heads: list[bytes] = []

    async def app(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.converse(heads[-1])

    front = harbour.front()
    upgrade = (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )  # fmt: skip
    async with front.serving(app):
        for shown, status in (((), 401), ((f"X-API-Key: {harbour.edge.key}",), 101)):
            async with visiting(front.edge, front.hostname) as visitor:
                await visitor.send(request("/ws", front.host("tls"), *upgrade, *shown))
                assert (await visitor.reply()).status == status
    assert len(heads) == 1 and harbour.edge.key.encode() not in heads[0]


def test_who_signs_links_keeps_the_key_to_itself(harbour: Harbour) -> None:
    file = harbour.edge.data / "links-key"
    assert file.stat().st_mode & 0o777 == 0o600
    inside = harbour.api.run(harbour.sandbox, "sh", "-c", f"ls {file} 2>&1 || true")
    assert "No such file" in inside
    assert Path(file).stat().st_size >= 32
