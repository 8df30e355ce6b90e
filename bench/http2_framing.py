"""What HTTP/2 costs before any I/O: h2, jh2's state machine, and our framing, in one run.

    python -m bench.http2_framing [--requests 4000] [--runs 5]

Each plays the server: the same bytes of a client are fed in, every request is answered with a head and
100 bytes, what is to be written is joined. Twelve fields in, eight out. CPU time of the process, the
best of the runs, candidates in turn. "varied" changes a cookie and a Date with every message, so that
nothing is remembered.
"""

from __future__ import annotations

import argparse
import gc
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import hpack
import jh2.config
import jh2.connection
import jh2.events
from jh2._hazmat import Decoder as TheirDecoder

from bench.load import BODY, BROWSER_FIELDS
from wellhead.wire.h2 import Fields, H2Connection, H2Role, H2Stream, H2Terms
from wellhead.wire.h2_frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS_ACK,
    header,
    settings_frame,
    window_frame,
)
from wellhead.wire.hpack import Decoder
from wellhead.wire.streams import Buffer

_REPLY: Fields = [
    (b":status", b"200"),
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-length", b"100"),
    (b"date", b"Mon, 02 Nov 2026 10:00:00 GMT"),
    (b"server", b"nginx/1.27"),
    (b"cache-control", b"private, max-age=60"),
    (b"vary", b"accept-encoding"),
    (b"x-frame-options", b"SAMEORIGIN"),
]


def _request(number: int, varied: bool) -> list[tuple[bytes, bytes]]:
    plain = [line.encode().partition(b": ")[::2] for line in BROWSER_FIELDS if not line.startswith("Conn")]
    fields = [(name.lower(), value) for name, value in plain][:8]
    if varied:
        fields = [(n, b"%b; n=%d" % (v, number) if n == b"cookie" else v) for n, v in fields]
    pseudo = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"bench.localhost"),
        (b":path", b"/"),
    ]
    return pseudo + fields


def _reply(number: int, varied: bool) -> Fields:
    if not varied:
        return _REPLY
    return [(n, b"%b %d" % (v, number) if n == b"date" else v) for n, v in _REPLY]


def _client(requests: int, at_once: int, varied: bool) -> Iterator[bytes]:
    """The reads a server would see."""
    encoder = hpack.Encoder()
    yield PREFACE + settings_frame({}) + window_frame(0, 2**30) + SETTINGS_ACK
    for first in range(0, requests, at_once):
        read = b""
        for number in range(first, first + at_once):
            block = encoder.encode(_request(number, varied))
            read += header(len(block) << 8 | HEADERS, END_HEADERS | END_STREAM, 2 * number + 1) + block
        yield read


def _ours(reads: list[bytes], varied: bool) -> int:
    number = 0

    def on_stream(stream: H2Stream, fields: Fields, end: bool) -> None:
        nonlocal number
        number += 1
        stream.sink = sink
        stream.headers(_reply(number, varied))
        stream.data(BODY, True)

    sink = _Nobody()
    connection = H2Connection(
        H2Role.SERVER,
        terms=H2Terms(),
        on_stream=on_stream,
        on_goaway=print,
        wake=_nothing,
        clock=time.monotonic,
    )
    connection.start()
    for read in reads:
        connection.receive(read)
        b"".join(connection.take(1 << 20))
    return number


class _Nobody:
    def on_headers(self, fields: Fields, end: bool) -> None: ...
    def on_data(self, data: Buffer, end: bool) -> None: ...
    def on_reset(self, code: int) -> None: ...
    def on_writable(self) -> None: ...


def _nothing() -> None: ...


def _h2(reads: list[bytes], varied: bool) -> int:
    config = h2.config.H2Configuration(client_side=False, header_encoding=None)
    return _theirs(h2.connection.H2Connection(config), h2.events.RequestReceived, reads, varied)


def _jh2(reads: list[bytes], varied: bool) -> int:
    config = jh2.config.H2Configuration(client_side=False, header_encoding=None)
    return _theirs(jh2.connection.H2Connection(config), jh2.events.RequestReceived, reads, varied)


def _theirs(connection: Any, request: type, reads: list[bytes], varied: bool) -> int:
    connection.initiate_connection()
    number = 0
    for read in reads:
        for event in connection.receive_data(read):
            if isinstance(event, request):
                number += 1
                connection.send_headers(event.stream_id, _reply(number, varied))
                connection.send_data(event.stream_id, BODY, end_stream=True)
        connection.data_to_send()
    return number


CANDIDATES: dict[str, Callable[[list[bytes], bool], int]] = {"h2": _h2, "jh2": _jh2, "ours": _ours}


def _best(runs: int, count: int, act: Callable[[], object]) -> float:
    """CPU microseconds of one call, the best of the runs."""
    best = float("inf")
    for _ in range(runs):
        began = time.process_time()
        for _ in range(count):
            act()
        best = min(best, (time.process_time() - began) / count * 1e6)
    return best


def _header_blocks(runs: int) -> None:
    """Reading one block of twelve fields: jh2's decoder as a whole beside ours."""
    encoder = hpack.Encoder()
    first, again = (encoder.encode(_request(0, False)) for _ in range(2))
    theirs, ours = TheirDecoder(), Decoder(65536, 512, 32768)
    theirs.decode(first, raw=True)
    ours.decode(first)

    def indexed() -> None:
        ours._known.clear()  # else it is recognised, in 0.1 µs
        ours.decode(again)

    print("\nµs of CPU a header block        jh2     ours")
    first_theirs = _best(runs, 1000, lambda: TheirDecoder().decode(first, raw=True))
    first_ours = _best(runs, 1000, lambda: Decoder(65536, 512, 32768).decode(first))
    print(f"the first, all Huffman    {first_theirs:9.1f}{first_ours:9.1f}")
    pairs = _best(runs, 5000, lambda: [(name, value) for name, value, _ in theirs.decode(again, raw=True)])
    print(f"the next, all indexed     {pairs:9.1f}{_best(runs, 5000, indexed):9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"{platform.python_implementation()} {platform.python_version()}, µs of CPU a request")
    print(f"{'':28}" + "".join(f"{name:>9}" for name in CANDIDATES))
    for at_once in (1, 10):
        for varied in (False, True):
            reads = list(_client(options.requests, at_once, varied))
            best = dict.fromkeys(CANDIDATES, float("inf"))
            for _ in range(options.runs):
                for name, candidate in CANDIDATES.items():
                    gc.collect()
                    began = time.process_time()
                    served = candidate(reads, varied)
                    took = time.process_time() - began
                    assert served == options.requests, f"{name} served {served}"
                    best[name] = min(best[name], took / served * 1e6)
            row = f"{at_once} a read, {'varied' if varied else 'repeated'} heads"
            print(f"{row:28}" + "".join(f"{figure:9.1f}" for figure in best.values()))
    _header_blocks(options.runs)


if __name__ == "__main__":
    main()
