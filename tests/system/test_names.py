"""Which name leads where: SNI against Host, unknown names, odd ClientHellos, names that cannot be had."""

from __future__ import annotations

import asyncio
import json
import re
import ssl

import pytest

from tests.kit.programs import quiet_port
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import PATIENCE, Reply, ask, request, visiting
from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # an alert record, RFC 8446 section 6
NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"


async def served(peer: Peer) -> None:
    while head := await peer.request():
        await peer.reply(b"tunnel " + head.split()[1])


# D1: a connection is good for the name that its TLS was made for


async def test_a_host_that_is_not_the_connections_name_is_421_and_closed(house: House) -> None:
    pairs = [
        (house.hostname, f"other-tunnel-0000.localhost:{house.edge.https}"),
        (house.hostname, f"localhost:{house.edge.https}"),
        ("localhost", house.host("tls")),
        ("other-tunnel-0000.localhost", house.host("tls")),
        (house.hostname, "example.com"),
    ]
    for sni, host in pairs:
        async with visiting(house.edge, sni) as visitor:
            reply = await visitor.get("/", host)
            assert (reply.status, reply.get("connection")) == (421, "close"), (sni, host)
            assert await visitor.rest(5) == b""


async def test_the_names_of_the_control_plane_share_a_connection(house: House) -> None:
    async with visiting(house.edge, "localhost") as visitor:
        for host in ("localhost", f"api.localhost:{house.edge.https}", "127.0.0.1", "[::1]"):
            assert (await visitor.get("/healthz", host)).status == 200, host


async def test_both_loopback_addresses_answer_on_the_same_ports(house: House) -> None:
    for address in ("127.0.0.1", "::1"):
        for sni in (None, "localhost"):
            async with visiting(house.edge, sni, address=address) as visitor:
                assert (await visitor.get("/healthz", "localhost")).status == 200


async def test_the_api_is_not_reached_by_a_tunnels_name(house: House) -> None:
    async with serving(served, port=house.port):
        reply = await ask(house.edge, house.hostname, "/api/v1/tunnels", f"X-API-Key: {house.edge.key}")
    assert reply.body == b"tunnel /api/v1/tunnels"


# D2: names of TLS


async def test_an_unknown_sni_gets_an_alert_and_no_certificate(house: House) -> None:
    for name in ("example.com", "localhost.example.com", "a.b.localhost"):
        got = await _say_hello(house, _hello(name))
        assert got == UNRECOGNIZED_NAME, name


async def test_an_unknown_protocol_gets_an_alert(house: House) -> None:
    assert await _say_hello(house, _hello("localhost", ["h3"])) == NO_APPLICATION_PROTOCOL


async def test_without_sni_only_the_control_plane_is_served(house: House) -> None:
    async with visiting(house.edge, "127.0.0.1") as visitor:  # no SNI is sent for an address
        certificate = visitor.writer.get_extra_info("peercert")
        assert ("IP Address", "127.0.0.1") in certificate["subjectAltName"]
        assert (await visitor.get("/healthz", "127.0.0.1")).status == 200
        assert (await visitor.get("/", house.host("tls"))).status == 421


# D3: the ClientHello in every form


@pytest.mark.parametrize("record", [1, 7, 100, 16384], ids=lambda n: f"records of {n}")
@pytest.mark.parametrize("segment", [1, 50, 65536], ids=lambda n: f"segments of {n}")
async def test_a_clienthello_in_pieces_is_understood(house: House, record: int, segment: int) -> None:
    async with serving(served, port=house.port):
        reply = await _tls_by_hand(house, house.hostname, record, segment)
    assert b"tunnel /by-hand" in reply


async def test_a_clienthello_of_thirty_kibibytes_is_understood(house: House) -> None:
    many = [f"{number:03d}" + "x" * 240 for number in range(120)]
    async with serving(served, port=house.port):
        reply = await _tls_by_hand(house, house.hostname, 16384, 65536, [*many, "http/1.1"])
    assert b"tunnel /by-hand" in reply


async def test_case_and_one_trailing_dot_of_a_name_do_not_matter(house: House) -> None:
    async with serving(served, port=house.port):
        for name in (house.hostname.upper(), house.hostname.title()):
            assert b"tunnel /by-hand" in await _tls_by_hand(house, name, 16384, 65536)
        dotted = _hello(house.hostname + "x").replace(
            f"{house.hostname}x".encode(), f"{house.hostname}.".encode()
        )
        assert (await _say_hello(house, dotted))[:1] == b"\x16"  # a ServerHello


async def test_what_is_no_clienthello_is_answered_by_an_alert_or_nothing(house: House) -> None:
    good = _hello(house.hostname)
    name = house.hostname.encode()
    wrong = {
        "plain HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a NUL in the name": good.replace(name, name[:3] + b"\x00" + name[4:]),
        "a control in the name": good.replace(name, name[:3] + b"\n" + name[4:]),
        "zeros": bytes(1000),
        "another handshake message": good[:5] + b"\x02" + good[6:],
        "a length past the end": good[:9] + b"\xff\xff" + good[11:] + bytes(70_000),
    }
    for what, data in wrong.items():
        got = await _say_hello(house, data)
        assert got == b"" or (len(got) == 7 and got[:1] == b"\x15"), what


# D4: names that lead nowhere


async def test_every_unknown_name_gets_the_same_page(house: House, leg: str) -> None:
    bodies = set()
    for name in ("never-was-0001", "a", "x--y", "x0-cl-00"):
        hostname = f"{name}.localhost"
        async with visiting(house.edge, hostname if leg == "tls" else None) as visitor:
            reply = await visitor.get("/some/path", hostname)
        assert reply.status == 404
        bodies.add(re.sub(rb'"request_id": "[^"]+"', b"", reply.body))
    assert len(bodies) == 1


async def test_an_unknown_host_on_the_plain_port_is_404(house: House) -> None:
    for host in ("example.com", "a.b.localhost", "192.0.2.1", "[2001:db8::1]"):
        async with visiting(house.edge, None) as visitor:
            assert (await visitor.get("/", host)).status == 404, host


# D6: names that cannot be had


@pytest.mark.parametrize(
    "name",
    [
        "api", "www", "admin", "mail", "_acme-challenge", "_x", "8080-cl-abc", "0-cl-x", "xn--pple-43d",
        "ab", "-abc", "abc-", "a--b", "ABC", "a.b", "a_b", "a b", "ü-umlaut", "", "a" * 64,
    ],
)  # fmt: skip
async def test_reserved_and_malformed_names_are_refused(house: House, name: str) -> None:
    reply = await _api(house, "POST", "/api/v1/tunnels", {"name": name, "tunnel_name": name})
    assert reply.status in (409, 422), reply.body


async def test_a_name_can_be_had_once(house: House) -> None:
    reply = await _api(house, "POST", "/api/v1/tunnels", {"name": house.agent.name})
    assert reply.status in (409, 422), reply.body


async def _api(house: House, method: str, target: str, body: object) -> Reply:
    data = json.dumps(body).encode()
    async with visiting(house.edge, "localhost") as visitor:
        fields = (f"X-API-Key: {house.edge.key}", "Content-Type: application/json")
        await visitor.send(
            request(target, f"localhost:{house.edge.https}", *fields, method=method, body=data)
        )
        return await visitor.reply(method)


# ClientHellos by hand


def _client(name: str, alpn: list[str] | None = None) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(alpn or ["http/1.1"])
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(coming, going, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return client, coming, going


def _hello(name: str, alpn: list[str] | None = None) -> bytes:
    return _client(name, alpn)[2].read()


async def _say_hello(house: House, hello: bytes) -> bytes:
    """What the server says to these first bytes, up to its close or its first record."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.edge.https)
    try:
        writer.write(hello)
        async with asyncio.timeout(PATIENCE):
            try:
                got = await reader.read(7)
                if got[:1] == b"\x15":
                    got += await reader.read(100)
            except ConnectionError:
                got = b""
        return got
    finally:
        writer.close()


def _in_records(hello: bytes, size: int) -> bytes:
    """The same handshake message in TLS records of at most ``size`` bytes."""
    message = b""
    while hello:
        length = int.from_bytes(hello[3:5], "big")
        message, hello = message + hello[5 : 5 + length], hello[5 + length :]
    return b"".join(
        b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece
        for piece in (message[at : at + size] for at in range(0, len(message), size))
    )


async def _tls_by_hand(
    house: House, name: str, record: int, segment: int, alpn: list[str] | None = None
) -> bytes:
    """One request on a connection whose ClientHello is sent in pieces; what came back."""
    client, coming, going = _client(name, alpn)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.edge.https)
    hello = _in_records(going.read(), record)
    reply = b""
    try:
        async with asyncio.timeout(PATIENCE):
            for at in range(0, len(hello), segment):
                writer.write(hello[at : at + segment])
                await writer.drain()
                if at < 200 * segment:
                    await asyncio.sleep(0)  # gives the peek many short looks at the beginning
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(going.read())
                    data = await reader.read(65536)
                    assert data, "closed within the handshake"
                    coming.write(data)
            client.write(request("/by-hand", house.host("tls")))
            writer.write(going.read())
            while b"by-hand" not in reply:
                data = await reader.read(65536)
                assert data, reply
                coming.write(data)
                try:
                    while True:
                        reply += client.read(65536)
                except ssl.SSLWantReadError:
                    continue
    finally:
        writer.close()
    return reply


# D4 and D5: a name that was taken away


async def test_a_deleted_tunnel_is_gone_at_once_and_its_agent_ends(house: House) -> None:
    port = quiet_port()
    async with serving(served, port=port):
        agent = await asyncio.to_thread(house.edge.agent, port)
        with agent:
            assert (await ask(house.edge, agent.hostname)).status == 200
            found = await _api(house, "GET", f"/api/v1/tunnels/?name={agent.name}", {})
            tunnel = json.loads(found.body)["tunnels"][0]["id"]
            assert (await _api(house, "DELETE", f"/api/v1/tunnels/{tunnel}", {})).status in (200, 202, 204)
            gone = await ask(house.edge, agent.hostname)
            assert gone.status == 404
            assert await asyncio.to_thread(agent.wait, 10) == 4
            assert "delete_pending" in agent.text and "Traceback" not in agent.text
    never = await ask(house.edge, "never-was-0002.localhost")
    strip = re.compile(rb'"request_id": "[^"]+"')
    assert strip.sub(b"", gone.body) == strip.sub(b"", never.body)
