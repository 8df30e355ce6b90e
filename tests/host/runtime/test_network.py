"""A sandbox's network: what it may reach, what reaches it, how fast it sends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kit.host_network import host_network
from tests.kit.namespaces import ip
from tests.kit.port_house import listening
from tests.kit.programs import eventually
from tests.kit.sandbox_host import needs_namespaces, sandbox_host
from tests.kit.sandbox_root import run_in, shell
from wellhead.errors import HostError
from wellhead.host.runtime import firewall
from wellhead.host.runtime.network import Network, entered
from wellhead.host.runtime.runtime import Running
from wellhead.host.runtime.terms import RuntimeTerms

_PYTHON = "/usr/bin/python3"
pytestmark = [
    needs_namespaces,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not os.path.exists(_PYTHON), reason="sandboxes ask with the machine's own Python"),
]

PORT = 7000
PUBLIC, PRIVATE, METADATA, NAMES = "203.0.113.2", "192.168.77.2", "169.254.169.254", "192.168.77.53"
_ADDRESSES = 0x10 | 0x100  # netlink's groups for those of IPv4 and IPv6
_ASK = """
import concurrent.futures, socket, sys
def ask(each):
    host, _, port = each.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 1) as s: return each, s.recv(64).decode()
    except OSError as error: return each, "no"
for answer in concurrent.futures.ThreadPoolExecutor(32).map(ask, sys.argv[1:]): print(*answer)
"""

_FLOOD = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    for port in range(20000, 50000):
        while True:
            try: s.sendto(b"x", (sys.argv[1], port))
            except ConnectionRefusedError: continue
            except PermissionError: pass
            break
print("sent")
"""


@contextlib.contextmanager
def outside(network: str) -> Iterator[str]:
    """A namespace beyond the host's: to it the internet, a private network and a metadata service."""
    with host_network() as name:
        ip("-n", network, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", name)
        for where, addresses in ((network, ["203.0.113.1"]), (name, [PUBLIC, PRIVATE, METADATA, NAMES])):
            for address in addresses:
                ip("-n", where, "address", "add", f"{address}/24", "dev", "up0")
            ip("-n", where, "link", "set", "up0", "up")
        ip("-n", network, "route", "add", "default", "via", PUBLIC)
        yield name


@contextlib.asynccontextmanager
async def answering(namespace: str, *ports: int) -> AsyncIterator[None]:
    """Servers at every address of a namespace, that say who asks."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(writer.get_extra_info("peername")[0]).removeprefix("::ffff:").encode())
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        for port in ports:
            with entered(namespace):
                listening = socket.create_server(
                    ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=16
                )
            await stack.enter_async_context(await asyncio.start_server(answer, sock=listening))
        yield


async def _is_up(host: str, port: int) -> None:
    """A new cable carries nothing for a moment."""
    _, writer = await _connected(host, port)
    writer.close()


async def ask(sandbox: Running, *targets: str) -> dict[str, str]:
    """What each of ``host:port`` answers to the sandbox; ``no`` where nothing does."""
    done = await run_in(sandbox, _PYTHON, "-c", _ASK, *targets)
    return dict(line.split(" ", 1) for line in done.output.splitlines())


def _followed(namespace: str) -> int:
    """The connections that the kernel follows in a network namespace."""
    with entered(namespace):
        return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


async def test_the_internet_is_reached_and_nothing_of_the_machine_or_its_networks() -> None:
    terms = RuntimeTerms(name_servers=[NAMES])
    async with sandbox_host(terms) as host:
        sandbox, sibling = await host.create(), await host.create()
        with outside(host.network) as beyond:
            here = f"/run/netns/{host.network}"
            async with answering(f"/run/netns/{beyond}", PORT, 53), answering(here, PORT, 53):
                await _is_up(PUBLIC, PORT)
                first = host.kept.get(sibling.spec.id).pid
                async with answering(f"/proc/{first}/ns/net", PORT):
                    answers = await ask(
                        sandbox,
                        *(f"{each}:{PORT}" for each in (PUBLIC, PRIVATE, METADATA, "203.0.113.1")),
                        f"10.12.0.2:{PORT}",
                        f"{sibling.address}:{PORT}", f"{NAMES}:53", f"{NAMES}:{PORT}", f"{METADATA}:53",
                        "10.12.0.2:53", "10.12.0.4:7000",
                    )  # fmt: skip
        reached = {each for each, answer in answers.items() if answer != "no"}
        assert reached == {f"{PUBLIC}:{PORT}", f"{NAMES}:53"}
        assert answers[f"{PUBLIC}:{PORT}"] == "203.0.113.1"
        assert (await shell(sandbox, "cat /etc/resolv.conf")).output == f"nameserver {NAMES}\n"


async def test_the_connections_that_the_machine_follows_for_a_sandbox_are_bounded() -> None:
    async with sandbox_host() as host:
        sandbox, sibling = await host.create(), await host.create()
        with outside(host.network) as beyond:
            async with answering(f"/run/netns/{beyond}", PORT):
                await _is_up(PUBLIC, PORT)
                done = await run_in(sandbox, _PYTHON, "-c", _FLOOD, PUBLIC)
                assert done.output.strip() == "sent", done
                assert (
                    firewall.FLOWS_MAX // 2
                    < _followed(f"/run/netns/{host.network}")
                    < firewall.FLOWS_MAX + 500
                )
                assert await ask(sibling, f"{PUBLIC}:{PORT}") == {f"{PUBLIC}:{PORT}": "203.0.113.1"}


async def test_what_a_sandbox_does_by_itself_is_not_followed_in_its_own_network() -> None:
    async with sandbox_host() as host:
        sandbox = await host.create()
        machine = "10.12.0.2"
        knock = "import socket,sys\nfor p in range(1, 200):\n  socket.socket().connect_ex((sys.argv[1], p))"
        for script, target in ((_FLOOD, "127.0.0.1"), (_FLOOD, machine), (knock, machine)):
            await run_in(sandbox, _PYTHON, "-c", script, target)
        inside = f"/proc/{host.kept.get(sandbox.spec.id).pid}/ns/net"
        assert _followed(inside) == 0
        async with answering(inside, PORT):
            reader, writer = await asyncio.open_connection(sandbox.address, PORT)
            assert await reader.read() == machine.encode()
            writer.close()
        assert _followed(inside) == 1


async def test_private_networks_are_reached_where_the_operator_says_so() -> None:
    for terms in (RuntimeTerms(egress_private=True), RuntimeTerms(allowed_networks=["192.168.77.0/24"])):
        async with sandbox_host(terms) as host:
            sandbox = await host.create()
            with outside(host.network) as beyond:
                async with answering(f"/run/netns/{beyond}", PORT):
                    await _is_up(PUBLIC, PORT)
                    answers = await ask(sandbox, f"{PRIVATE}:{PORT}", f"{METADATA}:{PORT}")
        assert answers == {f"{PRIVATE}:{PORT}": "203.0.113.1", f"{METADATA}:{PORT}": "no"}


async def test_without_egress_nothing_is_reached_and_nothing_forwarded() -> None:
    async with sandbox_host(RuntimeTerms(egress="none")) as host:
        assert host.told == []
        sandbox = await host.create()
        with outside(host.network) as beyond:
            async with answering(f"/run/netns/{beyond}", PORT), answering(f"/run/netns/{host.network}", PORT):
                await _is_up(PUBLIC, PORT)
                answers = await ask(sandbox, f"{PUBLIC}:{PORT}", f"10.12.0.2:{PORT}")
        assert set(answers.values()) == {"no"}


async def test_the_host_reaches_what_listens_in_a_sandbox() -> None:
    async with sandbox_host() as host:
        sandbox = await host.create()
        pid = host.kept.get(sandbox.spec.id).pid
        async with answering(f"/proc/{pid}/ns/net", PORT, 80):
            for port in (PORT, 80):
                async with asyncio.timeout(5):
                    reader, writer = await asyncio.open_connection(sandbox.address, port)
                    assert await reader.read() == b"10.12.0.2"
                    writer.close()


async def test_no_address_of_the_machine_comes_or_goes_with_a_sandbox() -> None:
    # Browsers end their requests when one does.
    async with sandbox_host() as host:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as heard:
            heard.bind((0, _ADDRESSES))
            sandbox = await host.create()
            await host.runtime.destroy(sandbox.spec.id)
            with pytest.raises(BlockingIOError):
                heard.recv(4096, socket.MSG_DONTWAIT)
            ip("-n", host.network, "address", "add", "10.13.0.1", "dev", "lo")
            assert heard.recv(4096, socket.MSG_DONTWAIT)


async def test_low_ports_and_ipv6_loopback_work_inside() -> None:
    async with sandbox_host() as host:
        sandbox = await host.create()
        script = (
            "import socket\n"
            "for family, name in (socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1'):\n"
            "    s = socket.create_server((name, 80), family=family)\n"
            "    c = socket.create_connection((name, 80)); print(s.accept()[1][0])\n"
        )
        done = await run_in(sandbox, _PYTHON, "-c", script, user="ann")
        assert done.output.split() == ["127.0.0.1", "::1"], done


async def test_what_a_sandbox_sends_is_held_to_its_rate_after_a_burst() -> None:
    rate, burst, size = 4_000_000, 1_000_000, 5_000_000
    async with sandbox_host(RuntimeTerms(egress_bytes_per_second=rate, egress_burst_bytes=burst)) as host:
        sandbox = await host.create()
        script = (
            f"import socket; s = socket.create_server(('', {PORT})); print('up', flush=True)\n"
            f"c = s.accept()[0]; c.sendall(bytes({size})); c.shutdown(1); c.recv(1)"
        )
        sending = asyncio.create_task(run_in(sandbox, _PYTHON, "-c", script))
        reader, writer = await _connected(sandbox.address, PORT)
        begin, got = time.perf_counter(), 0
        while data := await reader.read(1 << 20):
            got += len(data)
        took = time.perf_counter() - begin
        writer.close()
        await sending
    assert got == size
    assert took > 0.8 * (size - burst) / rate, took
    assert took < 10 * (size - burst) / rate, took


def _conversations(network: str, port: int) -> list[tuple[str, int]]:
    """The states of the connections to a port that the kernel follows there, and for how many seconds yet."""
    with entered(network):
        lines = Path("/proc/thread-self/net/nf_conntrack").read_text().splitlines()
    found = [line.split() for line in lines if f" dport={port} " in line]
    return [(fields[5], int(fields[4])) for fields in found]


@pytest.mark.skipif(
    not Path("/proc/thread-self/net/nf_conntrack").exists(),
    reason="this kernel does not tell what it follows",
)
async def test_connections_to_ports_that_have_ended_do_not_fill_the_machines_table() -> None:
    """An application that closes after each reply leaves one a request, for two minutes by default."""
    async with sandbox_host() as host:
        sandbox = await host.create()
        places = ("/proc/self/ns/net", f"/proc/{host.kept.get(sandbox.spec.id).pid}/ns/net")
        with listening(host, sandbox.spec.id, port=PORT) as server:
            for _ in range(3):
                visitor = await host.runtime.connect_port(sandbox.spec.id, PORT)
                application, _ = server.accept()
                application.close()
                visitor.close()
        for place in places:
            assert _conversations(place, PORT)

            def are_brief(place: str = place) -> bool:
                return all(left <= firewall.LINGER_SECONDS for _, left in _conversations(place, PORT))

            await asyncio.to_thread(eventually, are_brief, 10)


async def test_a_shaper_whose_sandbox_died_with_its_host_is_removed_at_the_next_start() -> None:
    async with sandbox_host() as host:
        sandbox = await host.create()
        ip("-n", host.network, "link", "delete", f"wh{sandbox.slot}h")
        assert f"wh{sandbox.slot}i" in ip("-n", host.network, "link")
        await asyncio.to_thread(Network(RuntimeTerms()).start)
        assert f"wh{sandbox.slot}i" not in ip("-n", host.network, "link")


def test_a_slot_that_another_host_has_just_claimed_stays_its_own() -> None:
    with host_network() as name, entered(f"/run/netns/{name}"):
        network = Network(RuntimeTerms())
        slot = network.claim("cl-mine")
        Network(RuntimeTerms()).start()
        assert network.claim("cl-another") == slot + 1


async def test_a_slot_whose_link_is_somebody_elses_is_passed_over() -> None:
    async with sandbox_host() as host:
        ip("-n", host.network, "link", "add", "wh1h", "type", "veth", "peer", "name", "other")
        assert (await host.create()).slot == 2


def test_rules_that_nft_refuses_are_told() -> None:
    with host_network() as name, entered(f"/run/netns/{name}"):
        with pytest.raises(HostError, match="nft refuses the rules"):
            firewall.put_in_place("table inet wellhead { nonsense }")
        for terms in (
            RuntimeTerms(),
            RuntimeTerms(egress="none"),
            RuntimeTerms(allowed_networks=["10.0.0.0/8"]),
        ):
            firewall.put_in_place(firewall.rules(terms, "wh", ["1.1.1.1"]))
        listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        assert listed == "table inet wellhead\n"


def test_without_nft_no_sandbox_is_run_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="install nftables"):
        firewall.put_in_place("")


async def _connected(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.01)
