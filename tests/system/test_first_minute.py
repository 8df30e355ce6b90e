"""What a new user does first, and does wrong first."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from tests.kit.certs import authority
from tests.kit.programs import Edge, quiet_port, run
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import ask

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def hello(peer: Peer) -> None:
    while await peer.request():
        await peer.reply(b"hello")


async def test_two_commands_without_an_option_put_an_app_online(tmp_path: Path) -> None:
    port = quiet_port()
    async with serving(hello, port=port):
        with Edge(tmp_path) as edge, edge.agent(port) as agent:
            reply = await ask(edge, agent.hostname, "/some/path")
            assert (reply.status, reply.body) == (200, b"hello")
            await asyncio.to_thread(agent.line, r"GET\s+/some/path\s+200", 5)
            await asyncio.to_thread(edge.line, r"access tunnel=\S+ .*target=/some/path status=200", 5)
            assert agent.plain_url.startswith("http://")
            assert await asyncio.to_thread(agent.stop, signal.SIGINT, 10) == 0
            assert "Traceback" not in agent.text + edge.text


async def test_an_upstream_that_does_not_answer_yet_is_said_and_served_when_it_does(tmp_path: Path) -> None:
    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port) as agent:
        await asyncio.to_thread(agent.line, str(port), 5)
        assert any(word in agent.text.lower() for word in ("does not answer", "not answer", "nothing"))
        async with serving(hello, port=port):
            assert (await ask(edge, agent.hostname)).status == 200


async def test_every_form_of_an_upstream_is_taken(tmp_path: Path) -> None:
    port, path = quiet_port(), str(tmp_path / "app.sock")
    with Edge(tmp_path / "home") as edge:
        for form in (f"127.0.0.1:{port}", f"http://localhost:{port}", f"unix:{path}"):
            async with serving(hello, port=port, path=path if form.startswith("unix:") else ""):
                agent = await asyncio.to_thread(edge.agent, form)
                with agent:
                    assert (await ask(edge, agent.hostname)).body == b"hello", form


async def test_an_https_upstream_that_is_not_trusted_is_said_and_not_used(tmp_path: Path) -> None:
    port = quiet_port()
    context = authority(tmp_path).address_context(("http/1.1",))
    with Edge(tmp_path / "home") as edge:
        async with serving(hello, port=port, context=context):
            agent = await asyncio.to_thread(edge.agent, f"https://localhost:{port}")
            with agent:
                assert "certificate" in agent.text
                assert (await ask(edge, agent.hostname)).status == 502


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "nonsense"),
        (["up", "--nonsense"], "--nonsense"),
        (["up", "--https", "127.0.0.1"], "port"),
        (["up", "--https", "127.0.0.1:99999"], "99999"),
        (["up", "--http", "not an address"], "not an address"),
        (["up", "--domain", "127.0.0.1"], "127.0.0.1"),
        (["up", "--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (["http"], "missing"),
        (["http", "99999"], "99999"),
        (["http", "not an address"], "not an address"),
        (["http", "ftp://x"], "ftp"),
        (["http", "8000", "--name", "Not A Name"], "Not A Name"),
        (["http", "8000", "--url", "gopher://x", "--api-key", "k"], "gopher"),
        (["http", "8000", "--ca-file", "/nonexistent.pem", "--url", "https://localhost:1", "--api-key", "k"],
         "/nonexistent.pem"),
        (["http", "8000"], "no server"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_clear_line_and_an_exit_code(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = run(*arguments, home=tmp_path)
    assert done.returncode not in (0, 1), done.stderr
    assert says.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and len(done.stderr.splitlines()) <= 3, done.stderr


def test_a_wrong_setting_is_named_with_the_place_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "wellhead.toml"
    file.write_text('head_second = 3\nlog_level = "loud"\n')
    done = run("up", "--check", "--config", str(file), home=tmp_path)
    assert done.returncode == 3 and "head_second" in done.stderr and "loud" in done.stderr
    done = run("up", "--check", home=tmp_path, WELLHEAD_HEAD_SECONDS="-1")
    assert done.returncode == 3 and "WELLHEAD_HEAD_SECONDS" in done.stderr
    done = run("up", "--check", home=tmp_path)
    assert done.returncode == 0 and "valid" in done.stdout
    assert not (tmp_path / "server").exists(), "a check makes nothing"


def test_a_missing_server_is_said_soon_and_plainly(tmp_path: Path) -> None:
    url = f"https://localhost:{quiet_port()}"
    done = run("http", "8000", "--url", url, "--api-key", "k", home=tmp_path)
    assert done.returncode == 5 and url.rpartition(":")[2] in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_in_use_is_said_plainly(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        done = run("up", "--https", address, "--http", "off", home=tmp_path)
    assert done.returncode == 3 and address in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_key_and_an_untrusted_server_are_told_apart(tmp_path: Path) -> None:
    with Edge(tmp_path) as edge:
        url = f"https://localhost:{edge.https}"
        stranger = tmp_path / "stranger"
        untrusted = run("http", "8000", "--url", url, "--api-key", "k", home=stranger)
        assert untrusted.returncode == 6, untrusted.stderr
        rejected = run(
            "http", "8000", "--url", url, "--api-key", "wh_wrong", "--ca-file", str(edge.ca), home=stranger
        )
        assert rejected.returncode == 4, rejected.stderr
        for done in (untrusted, rejected):
            assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 3
        # A name that somebody else could not have either.
        reserved = run("http", "8000", "--name", "admin", home=tmp_path)
        assert reserved.returncode != 0 and "admin" in reserved.stderr


def test_the_server_ends_cleanly_by_ctrl_c(tmp_path: Path) -> None:
    with Edge(tmp_path) as edge:
        assert edge.stop(signal.SIGINT, 10) == 0
        assert "Traceback" not in edge.text


def test_a_demo_shows_a_round_trip_and_exits(tmp_path: Path) -> None:
    done = run("demo", "--once", home=tmp_path, seconds=40)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "server").exists(), "a demo leaves the user's own server alone"


def test_help_names_every_command(tmp_path: Path) -> None:
    done = run("--help", home=tmp_path)
    assert done.returncode == 0
    for command in ("up", "http", "demo"):
        assert f"\n  {command} " in done.stdout
