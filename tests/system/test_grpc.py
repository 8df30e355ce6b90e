"""gRPC through the tunnel, by gRPC's own client and server: one HTTP/2 connection on each side of it."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.kit.certs import self_signed
from tests.kit.grpc_server import DETAILS, LARGEST, Service, serving_grpc
from tests.kit.programs import Agent, Edge, eventually, quiet_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SECONDS = 20  # for any call


@dataclass
class Way:
    """A channel through a tunnel, and the service at its other end."""

    channel: grpc.Channel
    service: Service
    edge: Edge
    agent: Agent
    stop: Callable[[float], None]


def dial(edge: Edge, agent: Agent, *options: tuple[str, object]) -> grpc.Channel:
    """A caller's channel to the public name."""
    authority = f"{agent.hostname}:{edge.https}"
    return grpc.secure_channel(
        f"ipv4:127.0.0.1:{edge.https}",
        grpc.ssl_channel_credentials(edge.ca.read_bytes()),
        options=[
            ("grpc.ssl_target_name_override", agent.hostname),
            ("grpc.default_authority", authority),
            ("grpc.max_receive_message_length", LARGEST),
            *options,
        ],
    )


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("grpc")) as edge:
        yield edge


@dataclass
class Place:
    """An agent and the port at which it expects the service."""

    agent: Agent
    port: int
    credentials: grpc.ServerCredentials | None


@pytest.fixture(scope="module", params=["h2c", "tls"])
def place(request: pytest.FixtureRequest, edge: Edge) -> Iterator[Place]:
    port = quiet_port()
    if request.param == "h2c":
        with edge.agent(f"h2c://127.0.0.1:{port}") as agent:
            yield Place(agent, port, None)
    else:
        key, certificate = self_signed("localhost")
        (ca := edge.home / "upstream.pem").write_bytes(certificate)
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        with edge.agent(f"https://localhost:{port}", "--upstream-ca-file", str(ca)) as agent:
            yield Place(agent, port, credentials)


@pytest.fixture
def way(edge: Edge, place: Place) -> Iterator[Way]:
    service = Service()
    with (
        serving_grpc(service, where=f"127.0.0.1:{place.port}", credentials=place.credentials) as (_, stop),
        dial(edge, place.agent) as channel,
    ):
        yield Way(channel, service, edge, place.agent, stop)


def unary(channel: grpc.Channel, method: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(method)


def to_one(channel: grpc.Channel, method: str) -> grpc.StreamUnaryMultiCallable[bytes, bytes]:
    return channel.stream_unary(method)


def from_one(channel: grpc.Channel, method: str) -> grpc.UnaryStreamMultiCallable[bytes, bytes]:
    return channel.unary_stream(method)


def both_ways(channel: grpc.Channel, method: str) -> grpc.StreamStreamMultiCallable[bytes, bytes]:
    return channel.stream_stream(method)


class Said:
    """Messages that a test says one by one; an iterator for gRPC to draw them from."""

    def __init__(self, *messages: bytes) -> None:
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for message in messages:
            self._messages.put(message)

    def say(self, message: bytes) -> None:
        self._messages.put(message)

    def end(self) -> None:
        self._messages.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (message := self._messages.get()) is not None:
            yield message


def test_a_unary_call_is_answered(way: Way) -> None:
    echo = unary(way.channel, "/t/Echo")
    assert [echo(message, timeout=SECONDS) for message in (b"one", b"", b"two")] == [b"one", b"", b"two"]


def test_calls_share_one_connection_to_the_service(way: Way) -> None:
    echo = unary(way.channel, "/t/Echo")
    for _ in range(5):
        echo(b"x", timeout=SECONDS)
    assert len(way.service.peers) == 1


def test_a_servers_messages_arrive_one_by_one(way: Way) -> None:
    call = from_one(way.channel, "/t/Count")(b"5", timeout=SECONDS)
    for number in range(5):
        way.service.go_on.release()  # no message is made before the one before was heard
        assert next(call) == b"%d" % number
    with pytest.raises(StopIteration):
        next(call)
    assert call.code() is grpc.StatusCode.OK


def test_a_callers_messages_are_heard_one_by_one(way: Way) -> None:
    said = Said()
    call = to_one(way.channel, "/t/Total").future(iter(said), timeout=SECONDS)
    for number in range(5):
        said.say(b"%d" % number)
        eventually(lambda number=number: len(way.service.heard) == number + 1, SECONDS, every=0.005)
    said.end()
    assert call.result() == b"5"


def test_both_sides_talk_in_turn_on_one_stream(way: Way) -> None:
    said = Said()
    call = both_ways(way.channel, "/t/Chat")(iter(said), timeout=SECONDS)
    for number in range(200):
        said.say(b"ping %d" % number)
        assert next(call) == b"pong ping %d" % number
    said.end()
    assert list(call) == [] and call.code() is grpc.StatusCode.OK


def test_large_messages_travel_both_ways_whole(way: Way) -> None:
    message = bytes(range(256)) * (12 * 4096)  # 12 MiB: many windows
    assert unary(way.channel, "/t/Echo")(message, timeout=SECONDS) == message
    pieces = list(from_one(way.channel, "/t/Bulk")(b"8", timeout=SECONDS))
    assert [(len(piece), piece[0]) for piece in pieces] == [(1024 * 1024, n) for n in range(8)]
    assert to_one(way.channel, "/t/Total")(iter([message] * 3), timeout=SECONDS) == b"%d" % (3 * len(message))


def test_a_status_arrives_with_its_text_and_its_details(way: Way) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(way.channel, "/t/Fail")(b"", timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no such thing: \N{SNOWMAN}"
    trailing = {each.key: each.value for each in caught.value.trailing_metadata() or ()}
    assert trailing == {"grpc-status-details-bin": DETAILS, "x-why": "because"}


def test_an_unknown_method_is_unimplemented(way: Way) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(way.channel, "/t/Nothing")(b"", timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_metadata_travels_both_ways_binary_too(way: Way) -> None:
    sent = (("my-text", "some text"), ("my-raw-bin", DETAILS), ("my-twice", "1"), ("my-twice", "2"))
    _, call = unary(way.channel, "/t/Echo").with_call(b"", timeout=SECONDS, metadata=sent)
    for metadata in (call.initial_metadata(), call.trailing_metadata()):
        assert [(k, v) for k, v in metadata if k.startswith("my-")] == list(sent)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_passed_on(way: Way, compression: grpc.Compression) -> None:
    message = b"again and again " * 10_000
    echo = unary(way.channel, "/t/Echo")
    assert echo(message, timeout=SECONDS, compression=compression) == message


def test_a_call_whose_deadline_has_passed_is_cancelled_at_the_service(way: Way) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(way.channel, "/t/Hang")(b"", timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert way.service.cancelled.wait(5)


def test_a_caller_that_cancels_is_heard_of_by_the_service(way: Way) -> None:
    call = unary(way.channel, "/t/Hang").future(b"", timeout=SECONDS)
    assert way.service.hanging.wait(SECONDS)
    call.cancel()
    assert way.service.cancelled.wait(5)


def test_a_caller_that_cancels_in_the_middle_of_a_stream_is_heard_of(way: Way) -> None:
    said = Said(b"hello")
    call = both_ways(way.channel, "/t/HangStream")(iter(said), timeout=SECONDS)
    assert next(call) == b"hello"
    call.cancel()
    assert way.service.cancelled.wait(5)
    said.end()


def test_a_service_that_has_heard_enough_is_believed_while_the_caller_still_talks(way: Way) -> None:
    said = Said(b"first")
    call = both_ways(way.channel, "/t/Early")(iter(said), timeout=SECONDS)
    assert next(call) == b"got first"
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.OUT_OF_RANGE, "enough")
    said.end()
    assert unary(way.channel, "/t/Echo")(b"x", timeout=SECONDS) == b"x"


def test_a_hundred_calls_at_once(way: Way) -> None:
    echo = unary(way.channel, "/t/Echo")
    calls = [echo.future(b"%d" % number * 1000, timeout=SECONDS) for number in range(100)]
    assert [call.result() for call in calls] == [b"%d" % number * 1000 for number in range(100)]


def test_more_streams_than_the_service_takes_wait_for_their_turn(edge: Edge, tmp_path: Path) -> None:
    service, port = Service(), quiet_port()
    options = (("grpc.max_concurrent_streams", 4),)
    with (
        serving_grpc(service, where=f"127.0.0.1:{port}", options=options),
        edge.agent(f"h2c://127.0.0.1:{port}") as agent,
        dial(edge, agent) as channel,
    ):
        counting = [from_one(channel, "/t/Count")(b"2", timeout=SECONDS) for _ in range(60)]
        for _ in range(120):
            service.go_on.release()
        with ThreadPoolExecutor(60) as pool:
            assert list(pool.map(list, counting)) == [[b"0", b"1"]] * 60


def test_a_channel_that_sends_keepalives_stays_up_while_a_stream_is_silent(edge: Edge, place: Place) -> None:
    service = Service()
    keepalive = (
        ("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.http2.max_pings_without_data", 0),
    )  # fmt: skip
    with (
        serving_grpc(service, where=f"127.0.0.1:{place.port}", credentials=place.credentials),
        dial(edge, place.agent, *keepalive) as channel,
    ):
        call = from_one(channel, "/t/Count")(b"2", timeout=SECONDS)
        service.go_on.release()
        assert next(call) == b"0"
        time.sleep(3.5)
        service.go_on.release()
        assert list(call) == [b"1"]


def test_a_service_that_restarts_is_found_again(edge: Edge, place: Place) -> None:
    with dial(edge, place.agent) as channel:
        echo = unary(channel, "/t/Echo")
        for generation in range(3):
            where = f"127.0.0.1:{place.port}"
            with serving_grpc(Service(), where=where, credentials=place.credentials):
                for _ in range(3):
                    assert echo(b"%d" % generation, timeout=SECONDS) == b"%d" % generation


def test_a_service_that_drains_finishes_its_calls_and_no_new_one_is_lost(edge: Edge, place: Place) -> None:
    """It says GOAWAY; another one takes its port while the old calls go on."""
    old, new = Service(), Service()
    where = f"127.0.0.1:{place.port}"
    with dial(edge, place.agent) as channel:
        with serving_grpc(old, where=where, credentials=place.credentials) as (_, stop):
            running = from_one(channel, "/t/Count")(b"3", timeout=SECONDS)
            old.go_on.release()
            assert next(running) == b"0"
            stopping = threading.Thread(target=stop, args=(15,))
            stopping.start()
            with serving_grpc(new, where=where, credentials=place.credentials):
                assert unary(channel, "/t/Echo")(b"new", timeout=SECONDS) == b"new"
                assert new.peers and not old.peers
                for _ in range(2):
                    old.go_on.release()
                assert list(running) == [b"1", b"2"]
            stopping.join(20)


def test_a_call_may_take_its_time_and_be_silent_for_long(tmp_path: Path) -> None:
    """Its caller says how long it may take; the limits for slow requests and late replies are for others."""
    service, port = Service(), quiet_port()
    hasty = {"reply_seconds": 1, "body_idle_seconds": 1}
    with (
        serving_grpc(service, where=f"127.0.0.1:{port}"),
        Edge(tmp_path, settings=hasty) as edge,
        edge.agent(f"h2c://127.0.0.1:{port}") as agent,
        dial(edge, agent) as channel,
    ):
        said = Said(b"first")
        call = to_one(channel, "/t/Total").future(iter(said), timeout=SECONDS)
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel, "/t/Hang")(b"", timeout=2.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        said.say(b"second")
        said.end()
        assert call.result() == b"11"


def test_a_server_that_leaves_lets_running_calls_end(tmp_path: Path) -> None:
    service, port = Service(), quiet_port()
    with (
        serving_grpc(service, where=f"127.0.0.1:{port}"),
        Edge(tmp_path) as edge,
        edge.agent(f"h2c://127.0.0.1:{port}") as agent,
        dial(edge, agent) as channel,
    ):
        call = from_one(channel, "/t/Count")(b"3", timeout=SECONDS)
        service.go_on.release()
        assert next(call) == b"0"
        edge.signal(signal.SIGTERM)
        agent.line("(?i)the server is leaving")
        service.go_on.release(2)
        assert list(call) == [b"1", b"2"] and call.code() is grpc.StatusCode.OK
        assert edge.wait() == 0


def test_an_absent_service_is_unavailable(edge: Edge, place: Place) -> None:
    with dial(edge, place.agent) as channel, pytest.raises(grpc.RpcError) as caught:
        unary(channel, "/t/Echo")(b"", timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_service_that_dies_under_a_call_is_no_clean_end(edge: Edge, place: Place) -> None:
    service = Service()
    with dial(edge, place.agent) as channel:
        where = f"127.0.0.1:{place.port}"
        with serving_grpc(service, where=where, credentials=place.credentials) as (_, stop):
            call = from_one(channel, "/t/Count")(b"3", timeout=SECONDS)
            service.go_on.release()
            assert next(call) == b"0"
            stop(0)
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() is not grpc.StatusCode.OK
            service.go_on.release(2)
