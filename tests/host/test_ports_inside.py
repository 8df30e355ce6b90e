"""Ports of real sandboxes, reached through the host as the edge asks for them. For root."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.host_network import host_network
from tests.kit.namespaces import ip
from tests.kit.port_house import ECHO, MESSAGE, PortHouse, listening, port_house
from tests.kit.sandbox_host import SandboxHost, needs_namespaces, sandbox_host
from tests.kit.sandbox_root import run_in
from tests.kit.upstreams import Handler, Peer, serving
from wellhead.host.guest_link import GuestLink
from wellhead.host.port_terms import PortTerms
from wellhead.host.runtime.network import entered
from wellhead.host.runtime.runtime import Running
from wellhead.host.runtime.terms import RuntimeTerms
from wellhead.model.sandboxes import SandboxStatus
from wellhead.wire.streams import Reason

S = SandboxStatus
PYTHON = "/usr/bin/python3"
PORT = 3000

pytestmark = [
    needs_namespaces,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not os.path.exists(PYTHON), reason="sandboxes serve with the machine's own Python"),
]

SERVER = """
import socket, threading, time
def talk(c):
    head = b""
    while not head.endswith(b"\\r\\n\\r\\n"): head += c.recv(1)
    if b"Upgrade:" in head:
        c.sendall(b"HTTP/1.1 101 x\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                  b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n")
        while got := c.recv(99): c.sendall(bytes([got[0], got[1] & 127]) + got[6:])
    else:
        time.sleep(0.3)
        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
s = socket.create_server(("127.0.0.1", 3000)); print("up", flush=True)
while True: threading.Thread(target=talk, args=s.accept()[:1], daemon=True).start()
"""


@pytest.fixture
async def host() -> AsyncIterator[SandboxHost]:
    async with sandbox_host() as made:
        yield made


@pytest.fixture
async def house(host: SandboxHost) -> AsyncIterator[PortHouse]:
    async with port_house(host) as made:
        yield made


async def answering(peer: Peer) -> None:
    """Each request is answered with its own head; upgrades are granted."""
    while True:
        head = await peer.request()
        if b"Upgrade: websocket" in head:
            await peer.converse(head)
            return
        await peer.reply(head)


@contextlib.asynccontextmanager
async def program(sandbox: Running, script: str, user: str = "root") -> AsyncIterator[None]:
    """A Python program in a sandbox; it is ended with it."""
    running = asyncio.create_task(run_in(sandbox, PYTHON, "-c", script, user=user))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


def saying(word: bytes) -> Handler:
    async def say(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.reply(word)

    return say


async def test_a_server_is_reached_whatever_it_listens_on(host: SandboxHost, house: PortHouse) -> None:
    sandbox = await host.create()
    house.add(sandbox)
    for address, v6only in [
        ("127.0.0.1", True), ("0.0.0.0", True), ("::1", True), ("::", False), ("::", True),
        (sandbox.address, True),
    ]:  # fmt: skip
        sock = listening(host, sandbox.spec.id, address, v6only=v6only)
        port = sock.getsockname()[1]
        async with serving(answering, sock=sock):
            for _ in range(2):
                visitor = await house.ask(sandbox.spec.id, port, target="/a%2Fb//?c").over()
                assert visitor.reason is None and visitor.status == 200, address
                assert visitor.body.startswith(b"GET /a%%2Fb//?c HTTP/1.1\r\nHost: localhost:%d\r\n" % port)
                assert b"Wellhead" not in visitor.body


async def test_a_sandbox_without_ipv6_has_its_other_ports(host: SandboxHost) -> None:
    house = PortHouse(host.runtime, PortTerms(retry_seconds=0))
    sandbox = await host.create()
    house.add(sandbox)
    _switch_off_ipv6(host.kept.get(sandbox.spec.id).pid)
    sock = listening(host, sandbox.spec.id, sandbox.address)
    async with serving(saying(b"here"), sock=sock):
        assert (await house.ask(sandbox.spec.id, sock.getsockname()[1]).over()).body == b"here"
    assert (await house.ask(sandbox.spec.id, 4000).over()).reason == Reason.UPSTREAM_UNREACHABLE
    await house.ports.aclose()


async def test_messages_go_both_ways_until_the_sandbox_ends(host: SandboxHost, house: PortHouse) -> None:
    sandbox = await host.create()
    entry = house.add(sandbox)
    sock = listening(host, sandbox.spec.id)
    async with serving(answering, sock=sock):
        visitor = house.converse(sandbox.spec.id, sock.getsockname()[1])
        await visitor.until(lambda v: bool(v.heads))
        visitor.stream.send(MESSAGE)
        await visitor.until(lambda v: len(v.body) >= len(ECHO))
        assert visitor.status == 101 and visitor.body == ECHO
        house.end(entry)
        await visitor.over()
        assert visitor.reason == Reason.UPSTREAM_FAILED


async def test_what_is_not_there_and_what_breaks_and_what_hangs_are_told_apart(host: SandboxHost) -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.request()

    async def talk_nonsense(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"SSH-2.0-x\r\n\r\n")

    async def say_nothing(peer: Peer) -> None:
        await peer.closed()

    hasty = PortTerms(dial_seconds=0.3, reply_seconds=0.3)
    async with port_house(host, PortTerms(retry_seconds=0)) as patient, port_house(host, hasty) as house:
        sandbox = await host.create()
        for each in (patient, house):
            each.add(sandbox)
        assert (await patient.ask(sandbox.spec.id, 4000).over()).reason == Reason.UPSTREAM_UNREACHABLE
        for asked, handler, reason in (
            (patient, hang_up, Reason.UPSTREAM_FAILED),
            (patient, talk_nonsense, Reason.UPSTREAM_FAILED),
            (house, say_nothing, Reason.TIMEOUT),
        ):
            sock = listening(host, sandbox.spec.id)
            async with serving(handler, sock=sock):
                assert (await asked.ask(sandbox.spec.id, sock.getsockname()[1]).over()).reason == reason
        with listening(host, sandbox.spec.id, backlog=0) as full:
            visitors = [house.ask(sandbox.spec.id, full.getsockname()[1]) for _ in range(3)]
            assert [(await visitor.over()).reason for visitor in visitors] == [Reason.TIMEOUT] * 3


async def test_a_server_is_reached_within_50_ms_of_its_listen(host: SandboxHost) -> None:
    house = PortHouse(host.runtime, PortTerms(retry_seconds=20))
    sandbox = await host.create()
    house.add(sandbox)
    took = []
    for address in ("127.0.0.1", "::1", "127.0.0.1", "::1", "127.0.0.1"):
        with listening(host, sandbox.spec.id, address) as sock:
            port = sock.getsockname()[1]  # nothing listens there any more
        house.table.stir(sandbox.spec.id)
        visitor = house.ask(sandbox.spec.id, port)
        await asyncio.sleep(0.3)  # as a server does that is loaded
        sock = listening(host, sandbox.spec.id, address, port)
        began = time.perf_counter()
        async with serving(saying(b"here"), sock=sock):
            await visitor.over()
            took.append(time.perf_counter() - began)
        assert bytes(visitor.body) == b"here"
    print("reached after listen(), ms:", [round(each * 1000, 1) for each in sorted(took)])
    await house.ports.aclose()
    assert min(took) <= 0.05 and sorted(took)[2] <= 0.5


async def test_each_sandbox_answers_for_itself_and_after_a_restart_of_the_host_at_once(
    host: SandboxHost, house: PortHouse
) -> None:
    first, second = await host.create(), await host.create()
    socks = [listening(host, each.spec.id, port=PORT) for each in (first, second)]
    async with serving(saying(b"first"), sock=socks[0]), serving(saying(b"second"), sock=socks[1]):
        for at in (house, None):
            if at is None:  # the program is another one, and the links were made by an earlier version
                kept = host.kept.get(first.spec.id)
                _nft(kept.pid, "delete", "table", "ip", "wellhead")
                notes = {name: note for name, note in kept.notes.items() if name != "inward"}
                host.kept.write(dataclasses.replace(kept, notes=notes))
                await host.restart()
                at = PortHouse(host.runtime)
            for sandbox, word in ((first, b"first"), (second, b"second")):
                at.add(sandbox)
                assert (await at.ask(sandbox.spec.id, PORT).over()).body == word
            await at.ports.aclose()
        assert _nft(host.kept.get(first.spec.id).pid, "list", "tables") == "table ip wellhead\n"


def _switch_off_ipv6(pid: int) -> None:
    with entered(f"/proc/{pid}/ns/net"):
        Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")


def _nft(pid: int, *words: str) -> str:
    """What nft says in the network of a process."""
    with entered(f"/proc/{pid}/ns/net"):
        return subprocess.run(["nft", *words], capture_output=True, text=True, check=True).stdout


async def test_an_address_that_is_used_again_leads_to_the_sandbox_that_has_it_now(
    host: SandboxHost, house: PortHouse
) -> None:
    addresses = set()
    for number in range(5):
        sandbox = await host.create()
        addresses.add(sandbox.address)
        entry = house.add(sandbox)
        sock = listening(host, sandbox.spec.id, port=PORT)
        word = b"%d" % number
        async with serving(saying(word), sock=sock) as server:
            for _ in range(2):
                assert (await house.ask(sandbox.spec.id, PORT).over()).body == word
            assert len(server.peers) == 1
            house.end(entry)
            async with asyncio.timeout(1):
                await server.peers[0].writer.wait_closed()
        await host.runtime.destroy(sandbox.spec.id)
    assert len(addresses) == 1


async def test_a_paused_conversation_goes_on_after_it_and_nothing_is_late_by_then(host: SandboxHost) -> None:
    async with port_house(host, PortTerms(retry_seconds=20, reply_seconds=1.5)) as house:
        sandbox = await host.create()
        entry = house.add(sandbox)
        async with program(sandbox, SERVER):
            visitor = house.converse(sandbox.spec.id, PORT)
            await visitor.until(lambda v: bool(v.heads))
            waiting = house.ask(sandbox.spec.id, PORT)
            await asyncio.sleep(0)
            house.pass_through(entry, S.PAUSING)
            await host.runtime.pause(sandbox.spec.id)
            house.pass_through(entry, S.PAUSED)
            visitor.stream.send(MESSAGE)
            assert (await house.ask(sandbox.spec.id, PORT).over()).reason == Reason.REFUSED
            await asyncio.sleep(2.0)
            assert not visitor.body and waiting.reason is None and visitor.reason is None
            house.pass_through(entry, S.RESUMING)
            await host.runtime.resume(sandbox.spec.id)
            house.pass_through(entry, S.RUNNING)
            await visitor.until(lambda v: len(v.body) >= len(ECHO))
            assert (await waiting.over()).body == b"ok"


async def test_what_a_port_sends_counts_in_the_bucket_of_its_sandbox() -> None:
    rate, burst, size = 4_000_000, 1_000_000, 5_000_000

    async def much(peer: Peer) -> None:
        await peer.request()
        await peer.reply(bytes(size))

    async with sandbox_host(RuntimeTerms(egress_bytes_per_second=rate, egress_burst_bytes=burst)) as host:
        async with port_house(host) as house:
            sandbox = await host.create()
            house.add(sandbox)
            sock = listening(host, sandbox.spec.id)
            async with serving(much, sock=sock):
                began = time.perf_counter()
                visitor = await house.ask(sandbox.spec.id, sock.getsockname()[1]).over()
                took = time.perf_counter() - began
    assert len(visitor.body) == size
    assert took > 0.8 * (size - burst) / rate, took


async def test_a_sandbox_whose_link_is_gone_is_not_sought_at_another_machine(
    host: SandboxHost, house: PortHouse
) -> None:
    sandbox = await host.create()
    house.add(sandbox)
    with host_network() as beyond:
        ip("-n", host.network, "link", "delete", f"wh{sandbox.slot}h")
        ip("-n", host.network, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", beyond)
        ip("-n", host.network, "address", "add", "10.12.0.1/16", "dev", "up0")
        ip("-n", beyond, "address", "add", f"{sandbox.address}/16", "dev", "up0")
        for each in (host.network, beyond):
            ip("-n", each, "link", "set", "up0", "up")
        with entered(f"/run/netns/{beyond}"):
            sock = socket.create_server((sandbox.address, PORT))
        async with serving(saying(b"another machine"), sock=sock):
            for _ in range(2):
                visitor = await house.ask(sandbox.spec.id, PORT).over()
                assert visitor.reason == Reason.REFUSED and not visitor.heads


async def test_a_port_of_any_user_inside_is_told_with_its_process(host: SandboxHost) -> None:
    sandbox = await host.create()
    async with program(sandbox, SERVER, user="ann"):
        link = GuestLink(sandbox.guest_socket)
        async with asyncio.timeout(20):
            while not (ports := await link.ports()):
                pass
    assert ports[0].pop("pid") and str(ports[0].pop("command")).startswith("python")
    assert ports == [{"port": PORT, "address": "127.0.0.1", "argv": [PYTHON, "-c", SERVER], "user": "ann"}]


async def test_no_other_user_of_the_machine_gets_into_a_sandbox(host: SandboxHost) -> None:
    sandbox = await host.create()
    script = f"import socket; socket.create_connection(({sandbox.address!r}, {PORT}), 1); print('in')"

    async def connects(user: int) -> bool:
        done = await asyncio.create_subprocess_exec(
            PYTHON, "-c", script, user=user, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return (await done.communicate())[0] == b"in\n"

    with listening(host, sandbox.spec.id, port=PORT):
        assert await connects(0) and not await connects(65534)
