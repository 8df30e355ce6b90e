"""An upstream for bytes in bulk: hashes what it is sent, sends what can be hashed.

``python tests/kit/bulk_server.py`` prints its port. ``GET /bytes/COUNT`` streams that many bytes of
``blocks``; ``PUT /hash`` answers the SHA-256 of what it got. Everything streams: no body is held.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 1024 * 1024  # bytes


def blocks(count: int) -> Iterator[bytes]:
    """``count`` bytes in blocks of which no two are alike, so that a lost or moved one changes the hash."""
    base = bytearray(random.Random(7).randbytes(BLOCK))
    for number in range(-(-count // BLOCK)):
        base[:8] = number.to_bytes(8, "big")
        yield bytes(base[: min(BLOCK, count - number * BLOCK)])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def do_GET(self) -> None:
        count = int(self.path.rpartition("/")[2])
        self.send_response(200)
        self.send_header("Content-Length", str(count))
        self.end_headers()
        for block in blocks(count):
            self.wfile.write(block)

    def do_PUT(self) -> None:
        left, digest, buffer = int(self.headers["Content-Length"]), hashlib.sha256(), bytearray(BLOCK)
        view = memoryview(buffer)
        while left:
            got = self.rfile.readinto(view[: min(left, BLOCK)])
            if not got:
                raise ConnectionResetError("the body ended early")
            digest.update(view[:got])
            left -= got
        body = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"port {server.server_port}", flush=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    serving.join()


if __name__ == "__main__":
    main()
