"""Secrets stay where they belong: not in a log, a page, a metric, a database or another's arguments."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.kit.programs import Edge, environment, quiet_port, wellhead
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import Visitor, request, visiting

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SECRET = re.compile(r"\bwhs?_[0-9A-Za-z]{57}\b")


async def ok(peer: Peer) -> None:
    while await peer.request():
        await peer.reply()


async def test_secrets_are_in_no_output_at_debug_level_and_in_no_database(tmp_path: Path) -> None:
    port = quiet_port()
    with Edge(tmp_path, settings={"log_level": "debug"}) as edge, edge.agent(port) as agent:
        shown = SECRET.findall(agent.text)
        assert len(shown) == 1, "the connect secret is shown once, when it is made"
        secret, key = shown[0], edge.key
        signs = (edge.data / "links-key").read_text().strip()
        answers = b""
        async with serving(ok, port=port):
            answers = await _everything_with(edge, agent.hostname, key, secret)
        arguments = b"".join(each.arguments() for each in (edge, agent))
        for process in psutil.Process(edge.pid).children(recursive=True):
            arguments += " ".join([*process.cmdline(), *process.environ().values()]).encode()
        assert agent.stop(signal.SIGINT) == 0 and edge.stop() == 0

        said = "\n".join([edge.text, agent.text])
        for canary, kept, allowed in (
            (key, "admin-key", 1),  # shown once, to its owner
            (secret, "", 1),
            (signs, "links-key", 0),
        ):
            assert said.count(canary) <= allowed, _lines_with(said, canary)
            assert canary.encode() not in answers
            assert canary.encode() not in arguments
            # Half of it would be as bad.
            assert said.count(canary[12:40]) <= allowed, _lines_with(said, canary[12:40])
            for path in edge.data.rglob("*"):
                if path.is_file() and path.name != kept:
                    assert canary.encode() not in path.read_bytes(), path
                    assert canary[12:40].encode() not in path.read_bytes(), path


async def _everything_with(edge: Edge, hostname: str, key: str, secret: str) -> bytes:
    """Bring the two secrets into every input there is; returns all that was answered."""
    answers = b""
    api, host = f"localhost:{edge.https}", f"{hostname}:{edge.https}"
    for canary in (key, secret):
        wrong = canary[:-1] + ("A" if canary[-1] != "A" else "B")
        for given in (canary, wrong):
            for target in (
                "/api/v1/tunnels",
                f"/api/v1/tunnels/{given}",
                f"/api/v1/tunnels?key={given}",
                f"/{given}",
            ):
                for data in (b"", f'{{"name": "{given}"}}'.encode(), f'{{"broken": "{given}'.encode()):
                    async with visiting(edge, "localhost") as visitor:
                        await visitor.send(
                            request(
                                target, api, f"X-API-Key: {given}", f"Authorization: Bearer {given}",
                                "Content-Type: application/json", method="POST" if data else "GET", body=data,
                            )
                        )  # fmt: skip
                        answers += (await visitor.reply()).body
        async with visiting(edge, hostname) as visitor:
            await visitor.get(f"/?token={canary}", host, f"Cookie: token={canary}", f"X-API-Key: {canary}")
            answers += await _broken(
                visitor, f"GET /{canary} HTTP/1.1\r\nHost: {host}\r\nX-A {canary}\r\n\r\n"
            )
        async with visiting(edge, "localhost") as visitor:
            answers += (await visitor.get("/metrics", api)).body
    for given in (key[:-1] + "x", "wh_" + "a" * 57, secret + "x"):
        done = await asyncio.create_subprocess_exec(
            *wellhead("http", "1", "--name", hostname.partition(".")[0]),
            env=environment(edge.home, WELLHEAD_API_KEY=given),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(20):
            out, _ = await done.communicate()
        assert done.returncode not in (0, None) and b"Traceback" not in out
        assert given.encode() not in out
        answers += out
    return answers


async def _broken(visitor: Visitor, text: str) -> bytes:
    await visitor.send(text.encode())
    return await visitor.rest(5)


def _lines_with(text: str, needle: str) -> str:
    return "\n".join(line for line in text.splitlines() if needle in line)[:2000]
