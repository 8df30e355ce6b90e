"""A gRPC service without generated code: messages are bytes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc

DETAILS = bytes(range(256))  # not text: travels as a -bin field
LARGEST = 64 * 1024 * 1024
Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass
class Service:
    """What the tests call; they watch it and hold it back."""

    go_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    hanging: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    heard: list[bytes] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)

    def echo(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """The message back; metadata that begin with my- too, as initial and trailing metadata."""
        self.peers.add(context.peer())
        sent: Metadata = tuple((k, v) for k, v in context.invocation_metadata() if k.startswith("my-"))
        context.send_initial_metadata(sent)
        context.set_trailing_metadata(sent)
        return request

    def count(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """So many messages, each when it is let go."""
        for number in range(int(request)):
            self.go_on.acquire(timeout=20)
            yield b"%d" % number

    def bulk(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Messages of 1 MiB."""
        for number in range(int(request)):
            yield bytes([number]) * (1024 * 1024)

    def total(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The sum of lengths; every message is heard at once."""
        size = 0
        for message in requests:
            self.heard.append(message[:20])
            size += len(message)
        return b"%d" % size

    def chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """An answer for each message, before the next one."""
        for message in requests:
            yield b"pong " + message

    def early(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Enough after the first message, whatever else is to come."""
        yield b"got " + next(requests)
        context.abort(grpc.StatusCode.OUT_OF_RANGE, "enough")

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """A status with details in the trailers."""
        context.set_trailing_metadata((("grpc-status-details-bin", DETAILS), ("x-why", "because")))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: \N{SNOWMAN}")
        raise AssertionError

    def hang(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Nothing, until the caller is gone."""
        gone = threading.Event()
        context.add_callback(gone.set)
        self.hanging.set()
        if gone.wait(30):
            self.cancelled.set()
        return b""

    def hang_stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """One message, and nothing until the caller is gone."""
        yield b"hello"
        self.hang(b"", context)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, service: Service) -> None:
        self._methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "/t/Echo": grpc.unary_unary_rpc_method_handler(service.echo),
            "/t/Count": grpc.unary_stream_rpc_method_handler(service.count),
            "/t/Bulk": grpc.unary_stream_rpc_method_handler(service.bulk),
            "/t/Total": grpc.stream_unary_rpc_method_handler(service.total),
            "/t/Chat": grpc.stream_stream_rpc_method_handler(service.chat),
            "/t/Early": grpc.stream_stream_rpc_method_handler(service.early),
            "/t/Fail": grpc.unary_unary_rpc_method_handler(service.fail),
            "/t/Hang": grpc.unary_unary_rpc_method_handler(service.hang),
            "/t/HangStream": grpc.stream_stream_rpc_method_handler(service.hang_stream),
        }

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self._methods.get(handler_call_details.method)


@contextlib.contextmanager
def serving_grpc(
    service: Service,
    *,
    where: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, object]] = (),
    compression: grpc.Compression | None = None,
) -> Iterator[tuple[int, Callable[[float], None]]]:
    """A server; its port, and how to end it with so many seconds for what runs."""
    pool = ThreadPoolExecutor(max_workers=160)
    server = grpc.server(
        pool,
        handlers=[_Handlers(service)],
        options=[("grpc.max_receive_message_length", LARGEST), ("grpc.so_reuseport", 0), *options],
        compression=compression,
    )
    if credentials is None:
        port = server.add_insecure_port(where)
    else:
        port = server.add_secure_port(where, credentials)
    server.start()

    def stop(grace: float) -> None:
        server.stop(grace).wait(20)

    try:
        yield port, stop
    finally:
        stop(0)
        pool.shutdown(cancel_futures=True)
