"""What visitors do: many small requests (wrk, h2load), a few large bodies, an event stream."""

from __future__ import annotations

import json
import re
import resource
import socket
import ssl
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Unavailable

_PATIENCE_SECONDS = 60

HOSTNAME = "bench.localhost"
BODY = b"The quick brown fox jumps over the lazy dog, and the lazy dog dreams of quick brown foxes in return."

BROWSER_FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate, br",
    "Referer: http://bench.localhost/index.html",
    "Connection: keep-alive",
    "Cookie: session=5f2c8a1e9b7d4c63a0e8f1b2d3c4a596; theme=dark; consent=1",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
)
"""With Host: the twelve a browser sends with a page."""

_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Door:
    """Where visitors of one target knock: 127.0.0.1, this port, in TLS or not; perhaps HTTP/2 as well."""

    port: int
    tls: bool = False
    http2: bool = False
    hostname: str = HOSTNAME

    @property
    def authority(self) -> str:
        return f"{self.hostname}:{self.port}"

    def connect(self, patience_seconds: float = _PATIENCE_SECONDS) -> socket.socket:
        """A connection; TLS is not verified, its cost is what is measured."""
        plain = socket.create_connection(("127.0.0.1", self.port), patience_seconds)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.tls:
            return plain
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(plain, server_hostname=self.hostname)

    def get(self, path: str) -> bytes:
        """The request bytes of a GET that ends its connection."""
        return f"GET {path} HTTP/1.1\r\nHost: {self.authority}\r\nConnection: close\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Rush:
    """One run of wrk or h2load. Latencies in microseconds.

    ``failed`` connections or streams, ``refused`` replies (4xx, 5xx).
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    failed: int
    refused: int
    client_cpu_seconds: float

    @property
    def rate(self) -> float:
        return (self.requests - self.refused) / self.seconds


def rush(
    door: Door, connections: int, seconds: int, fields: Sequence[str] = (), *, varying: bool = False
) -> Rush:
    """Ask for the small body as often as ``connections`` allow, one request at a time on each.

    ``varying``: each request has another path and another value of one field than the one before.
    """
    url = f"{'https' if door.tls else 'http'}://{door.authority}/hello"
    argv = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "10s",
        "-s",
        str(_SCRIPT),
    ]
    argv += [part for field in fields for part in ("-H", field)]
    before = _children_cpu()
    facts = json.loads(_run([*argv, url, *(["--", "varying"] if varying else [])], seconds).splitlines()[-1])
    return Rush(
        requests=facts["requests"],
        seconds=facts["microseconds"] / 1e6,
        p50=facts["p50"],
        p99=facts["p99"],
        failed=facts["failed"],
        refused=facts["refused"],
        client_cpu_seconds=_children_cpu() - before,
    )


def rush_http2(door: Door, connections: int, streams: int, seconds: int) -> Rush:
    """The same in HTTP/2 over TLS, with ``streams`` requests at a time on each connection."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "requests"
        argv = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"--log-file={log}"]
        argv += ["--npn-list=h2", f"--connect-to=127.0.0.1:{door.port}", f"https://{door.authority}/hello"]
        before = _children_cpu()
        text = _run(argv, seconds)
        used = _children_cpu() - before
        rows = [line.split("\t") for line in log.read_text().splitlines()]
    took = sorted(int(micros) for _, status, micros in rows if status == "200")
    if not took:
        raise Unavailable("h2load had no reply")
    done, failed = (int(_h2load_count(text, word)) for word in ("done", "failed"))
    refused = sum(status not in ("200", "-1") for _, status, _ in rows)
    return Rush(
        requests=done,
        seconds=seconds,
        p50=took[len(took) // 2],
        p99=took[len(took) * 99 // 100],
        failed=failed - refused,  # h2load counts a 503 as a failure
        refused=refused,
        client_cpu_seconds=used,
    )


def _h2load_count(text: str, word: str) -> str:
    found = re.search(rf"^requests: .*?(\d+) {word}\b", text, re.MULTILINE)
    if found is None:
        raise Unavailable(f"h2load did not say how many requests were {word}: {text[-160:]!r}")
    return found[1]


def _run(argv: Sequence[str], seconds: float) -> str:
    """What a load generator printed."""
    patience = seconds + _PATIENCE_SECONDS
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{argv[0]} did not end within {patience:g} s") from None
    if done.returncode != 0 or not done.stdout.strip():
        raise Unavailable(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[:160]}")
    return done.stdout.strip()


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def answers(door: Door) -> bool:
    """Whether the upstream's small body comes through."""
    reply = b""
    try:
        with door.connect(2) as connection:
            connection.sendall(door.get("/hello"))
            while piece := connection.recv(65536):
                reply += piece
    except OSError:
        return False
    return reply.startswith(b"HTTP/1.1 200") and BODY in reply


def bulk(door: Door, streams: int, size: int) -> float:
    """MB/s (10^6) of ``streams`` downloads of ``size`` bytes at once, first request to last byte.

    Raises:
        Unavailable: a download ended early or was refused.
    """
    start = threading.Barrier(streams + 1)
    failures: list[str] = []

    def download() -> None:
        with door.connect() as connection:
            start.wait()
            try:
                _drain(connection, door, size)
            except (OSError, Unavailable) as error:
                failures.append(str(error))

    threads = [threading.Thread(target=download) for _ in range(streams)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise Unavailable(failures[0])
    return streams * size / 1e6 / (time.perf_counter() - began)


def _drain(connection: socket.socket, door: Door, size: int) -> None:
    connection.sendall(door.get("/bulk"))
    buffer = bytearray(1 << 20)
    head = bytearray()
    while b"\r\n\r\n" not in head:
        if not (piece := connection.recv(65536)):
            raise Unavailable("the connection ended within the head of a download")
        head += piece
    if not head.startswith(b"HTTP/1.1 200"):
        raise Unavailable(f"a download was answered {head[:40].decode(errors='replace')!r}")
    got = len(head) - head.index(b"\r\n\r\n") - 4
    while got < size:
        if not (count := connection.recv_into(buffer)):
            raise Unavailable(f"a download ended after {got} of {size} bytes")
        got += count


@dataclass(frozen=True, slots=True)
class Events:
    """Microseconds from request to first event (median), and how long later events were under way."""

    first: float
    p50: float
    worst: float


def events(door: Door, opens: int, count: int) -> Events:
    """Open ``opens`` event streams one after the other for their first event, then read ``count`` of one."""
    firsts = [_read_events(door, 1)[0] for _ in range(opens)]
    delays = _read_events(door, count + 1)[1:]
    return Events(statistics.median(firsts), statistics.median(delays), max(delays))


def _read_events(door: Door, count: int) -> list[float]:
    """The first figure is microseconds since the request, the others since the source wrote the event."""
    delays: list[float] = []
    with door.connect() as connection:
        began = time.monotonic_ns()
        connection.sendall(door.get("/events"))
        pending = b""
        while len(delays) < count:
            if not (piece := connection.recv(65536)):
                raise Unavailable(f"the event stream ended after {len(delays)} events")
            now = time.monotonic_ns()
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    since = int(line[6:]) if delays else began
                    delays.append((now - since) / 1000)
    return delays[:count]
