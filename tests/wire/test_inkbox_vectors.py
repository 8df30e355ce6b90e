"""The official SDKs' connections, frame by frame: ours reads them, and says the same."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from wellhead.wire.facts import Facts
from wellhead.wire.headers import read_envelope, read_reply
from wellhead.wire.hpack import Decoder, Fields
from wellhead.wire.intake import (
    API_KEY,
    SECRET,
    Caller,
    Hello,
    Parcel,
    read_envelope_fields,
    reply_fields,
    reply_head,
    tcp_fields,
)
from wellhead.wire.intake_ws import (
    EnvelopeDecoder,
    OuterDecoder,
    binary_envelope,
    close_envelope,
    outer_frame,
    text_envelope,
)
from wellhead.wire.streams import StreamKind
from wellhead.wire.ws_frames import CLOSE, Binary, Close, Event, Text

VECTORS = Path(__file__).parents[1] / "vectors" / "inkbox"
SETS = sorted(path.stem for path in VECTORS.glob("*.jsonl"))
EDGE_SETS = [name for name in SETS if "edge" in name]
TCP_SETS = [name for name in SETS if "passthrough" in name]
TO_SERVER, TO_AGENT = "A>S", "S>A"
HOST = b"my-agent.tunnel.test"
KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="


class Head(NamedTuple):
    fields: Fields
    stream: int
    said: dict[bytes, bytes]


def frames(name: str) -> Iterator[dict[str, Any]]:
    for line in (VECTORS / f"{name}.jsonl").read_text("utf-8").splitlines():
        yield json.loads(line)


def heads(name: str, direction: str) -> list[Head]:
    found = []
    for frame in frames(name):
        if frame["type"] == "HEADERS" and frame["dir"] == direction:
            fields = [(field.encode(), value.encode()) for field, value in frame["headers"]]
            found.append(Head(fields, frame["stream"], dict(fields)))
    return found


def calls(name: str, path: bytes) -> list[Head]:
    return [head for head in heads(name, TO_SERVER) if head.said[b":path"].startswith(path)]


def envelopes(name: str) -> list[Head]:
    return [head for head in heads(name, TO_AGENT) if b"inkbox-request-id" in head.said]


def bodies(name: str, direction: str) -> dict[int, bytes]:
    found: dict[int, bytes] = defaultdict(bytes)
    for frame in frames(name):
        if frame["type"] == "DATA" and frame["dir"] == direction:
            found[frame["stream"]] += bytes.fromhex(frame["hex"])
    return found


def caller(name: str) -> Caller:
    said = calls(name, b"/_system/hello")[0].said
    credential = SECRET if SECRET in said else API_KEY
    return Caller(said[b":authority"], said[b"x-tunnel-id"], (credential, said[credential]))


def parcel(fields: Fields) -> Parcel:
    found = read_envelope_fields(fields, HOST, lambda: KEY)
    assert found is not None
    return found


def layers(data: bytes, *, masked: bool | None) -> tuple[list[Event], Close | None]:
    """The messages of a WebSocket's bridge, and how its outer layer ended."""
    envelopes, messages, ended = EnvelopeDecoder(1 << 20), [], None
    for event in OuterDecoder(masked=masked).receive(data):
        if isinstance(event, Binary):
            messages += envelopes.receive(event.data)
        else:
            assert isinstance(event, Close)
            ended = event
    assert (envelopes.unfinished, envelopes.dropped) == (0, 0)
    return messages, ended


@pytest.mark.parametrize("name", SETS)
def test_every_header_block_means_what_the_capture_says(name: str) -> None:
    decoders = {direction: Decoder(65536) for direction in (TO_SERVER, TO_AGENT)}
    for frame in frames(name):
        if frame["type"] == "HEADERS":
            said = [(field.encode(), value.encode()) for field, value in frame["headers"]]
            assert decoders[frame["dir"]].decode(bytes.fromhex(frame["hex"])) == said


@pytest.mark.parametrize("name", SETS)
def test_our_agent_calls_as_the_sdk_does(name: str) -> None:
    ours = caller(name)
    (hello,) = calls(name, b"/_system/hello")
    assert hello.fields == ours.hello()
    (token,) = {head.said[b"x-owner-token"] for head in calls(name, b"/_system/intake")}
    for head in calls(name, b"/_system/intake"):
        assert head.fields == ours.intake(int(head.said[b"x-pool-slot"]), token)
    for head in calls(name, b"/_system/ws/"):
        assert head.fields == ours.websocket(head.said[b"inkbox-ws-id"])
    for head in calls(name, b"/_system/tcp/"):
        assert head.fields == ours.tcp(head.said[b"inkbox-tcp-id"])


@pytest.mark.parametrize("name", SETS)
def test_a_hello_is_answered_with_what_the_sdk_took(name: str) -> None:
    (body,) = [data for stream, data in bodies(name, TO_AGENT).items() if stream == 1]
    hello = Hello.read(body)
    assert hello == Hello("owner-token-vector-1", 2, 300.0, 25.0)
    assert json.loads(hello.encode()) == json.loads(body)


@pytest.mark.parametrize("name", EDGE_SETS)
def test_a_reply_of_the_sdk_is_read_and_ours_is_posted_alike(name: str) -> None:
    posts = calls(name, b"/_system/response/")
    assert posts
    for post in posts:
        said = post.said
        reason = said.get(b"inkbox-h-inkbox-reason", b"")
        read = reply_head(post.fields)
        assert (read.status, read.reason.encode()) == (int(said[b"inkbox-status"]), reason)
        assert read.length == int(said[b"content-length"])
        facts = read_reply(read.head, b"GET")
        assert (facts.status, facts.content_length) == (read.status, read.length)
        assert b"inkbox" not in facts.fields
        request_id = said[b"inkbox-request-id"]
        ours = reply_fields(read.head, request_id, caller(name), length=read.length)
        assert ours == [field for field in post.fields if b"reason" not in field[0]]


def test_cookies_that_the_older_sdk_joined_are_told_apart() -> None:
    def cookies(name: str, joined: bool) -> list[bytes]:
        (post,) = [p for p in calls(name, b"/_system/response/") if b"theme" in p.said.get(COOKIE, b"")]
        head = reply_head(post.fields, joined_cookies=joined).head
        return [line[12:] for line in head.split(b"\r\n") if line.startswith(b"set-cookie: ")]

    COOKIE = b"inkbox-h-set-cookie"
    assert cookies("0720-edge-url", False) == [b"sid=abc; Path=/", b"theme=dark; Path=/"]
    assert cookies("030-edge-url", True) == cookies("0720-edge-url", False)
    assert cookies("030-edge-url", False) == [b"sid=abc; Path=/, theme=dark; Path=/"]


@pytest.mark.parametrize("name", EDGE_SETS)
def test_our_agent_takes_every_envelope_for_the_request_that_it_is(name: str) -> None:
    for head in envelopes(name):
        said, found = head.said, parcel(head.fields)
        websocket = said[b"inkbox-route-kind"] == b"ws-upgrade"
        assert found.kind is (StreamKind.WEBSOCKET if websocket else StreamKind.HTTP)
        assert found.bridge_id == said.get(b"inkbox-ws-id", b"")
        envelope = read_envelope(found.envelope)
        assert (envelope.method, envelope.target) == (said[b"inkbox-method"], said[b"inkbox-path"])
        assert (envelope.host, envelope.peer) == (HOST, said[b"inkbox-forwarded-for"].decode())


@pytest.mark.parametrize("name", [name for name in EDGE_SETS if "url" in name])
def test_an_upstream_is_told_what_the_sdk_would_tell_it(name: str) -> None:
    of_the_client = {"host", "connection", "accept-encoding", "accept", "user-agent", "upgrade", "forwarded"}
    told = {}
    for head in envelopes(name):
        envelope = parcel(head.fields).envelope
        lines = [line.split(b": ", 1) for line in envelope.split(b"\r\n")[1:-2]]
        told[head.said[b"inkbox-path"].decode()] = {(n.decode().lower(), v.decode()) for n, v in lines}
    for seen in json.loads((VECTORS / f"{name}-upstream.json").read_text("utf-8")):
        if isinstance(seen, dict):
            wanted = {(field.lower(), value) for field, value in seen["headers"]}
            wanted = {
                f for f in wanted if f[0] not in of_the_client and not f[0].startswith("sec-websocket-")
            }
            assert wanted <= told[seen["target"]]


@pytest.mark.parametrize("name", EDGE_SETS)
def test_a_bridge_carries_the_messages_of_both_sides(name: str) -> None:
    (bridge,) = calls(name, b"/_system/ws/")
    asked = bodies(name, TO_AGENT)[bridge.stream]
    answered = bodies(name, TO_SERVER)[bridge.stream]
    said, ended = layers(asked, masked=False)
    assert said[0] == Text(b"hi") and said[-1] == Text(b"close:4001:bye")
    assert ended is None
    again = [text_envelope(m.data) if isinstance(m, Text) else binary_envelope(m.data) for m in said]  # type: ignore[union-attr]
    assert b"".join([outer_frame(one, mask=None) for one in again]) == asked
    heard, ended = layers(answered, masked=True)
    assert heard[0] == Text(b"echo:hi")
    assert isinstance(heard[-1], Close)
    if "asgi" in name:  # it says that it closes with 4001, and then once more with 1000
        assert heard[-1] == Close(4001, "bye") and ended == Close(1000, "")
    else:
        assert heard[-1] == Close(4001, "") and ended is None


@pytest.mark.parametrize("name", TCP_SETS)
def test_a_tcp_connection_is_handed_over_and_ends_as_captured(name: str) -> None:
    (head,) = envelopes(name)
    request_id, bridge_id = head.said[b"inkbox-request-id"], head.said[b"inkbox-tcp-id"]
    found = parcel(head.fields)
    assert (found.kind, found.request_id, found.bridge_id) == (StreamKind.TCP, request_id, bridge_id)
    facts = Facts.decode(found.envelope)
    assert facts.server_name == "my-agent.tunnel.test"
    ours = dict(tcp_fields(facts, bridge_id))
    assert ours | {b"inkbox-request-id": request_id} == head.said | {
        b"inkbox-forwarded-for": facts.peer.encode()
    }
    (call,) = calls(name, b"/_system/tcp/")
    asked = OuterDecoder(masked=False, text=False).receive(bodies(name, TO_AGENT)[call.stream])
    assert isinstance(asked[0], Binary) and bytes(asked[0].data[:1]) == b"\x16"  # a ClientHello
    assert asked[-1] == Close(1000, "")
    answered = OuterDecoder(masked=True, text=False).receive(bodies(name, TO_SERVER)[call.stream])
    assert isinstance(answered[0], Binary) and bytes(answered[0].data[:1]) == b"\x16"
    assert answered[-1] == Close(1001, "cancelled")


@pytest.mark.parametrize("name", TCP_SETS)
def test_our_bytes_of_a_tcp_connection_are_framed_as_captured(name: str) -> None:
    (call,) = calls(name, b"/_system/tcp/")
    for frame in frames(name):
        if frame["type"] == "DATA" and frame["stream"] == call.stream:
            data = bytes.fromhex(frame["hex"])
            masked = frame["dir"] == TO_SERVER
            (event,) = OuterDecoder(masked=masked).receive(data)
            at = {126: 4, 127: 10}.get(data[1] & 0x7F, 2)
            mask = data[at : at + 4] if masked else None
            if isinstance(event, Binary):
                assert outer_frame(event.data, mask=mask) == data
            else:
                assert isinstance(event, Close)
                payload = event.code.to_bytes(2, "big") + event.reason.encode()
                assert outer_frame(payload, mask=mask, opcode=CLOSE) == data


def test_a_close_that_the_sdk_says_is_ours_too() -> None:
    answered = bodies("030-edge-asgi", TO_SERVER)[calls("030-edge-asgi", b"/_system/ws/")[0].stream]
    outer = [e.data for e in OuterDecoder(masked=True).receive(answered) if isinstance(e, Binary)]
    assert b"".join(outer).endswith(close_envelope(4001, "bye") + close_envelope(1000))
