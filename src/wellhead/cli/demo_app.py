"""The app behind the demo's tunnel: a page, an echo, and events that come one by one.

A plain threaded server of the standard library, on purpose: it knows nothing of Wellhead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

EVENTS = 3
EVENT_SECONDS = 0.25  # between two events
MAX_BODY = 64 << 20  # bytes of an echo

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Wellhead demo</title>
<style>
 body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }}
 code {{ background: #8882; padding: .1em .4em; border-radius: .3em }}
 :root {{ color-scheme: light dark }}
</style>
<h1>It works</h1>
<p>This page comes from an app on <code>{app}</code>, through an agent and the edge, to
<code>{visited}</code>.</p>
<p>Request number <code>{count}</code>; mark <code>{mark}</code>; events from the app:
<code id="events">…</code></p>
<script>
 let n = 0;
 const source = new EventSource("/events");
 source.onmessage = event => document.getElementById("events").textContent = event.data;
 source.onerror = () => source.close();
</script>
"""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    block_on_close = False  # an open event stream must not hold up the end
    mark = ""
    count = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """A visitor who leaves in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: else the second waits 40 ms for an ACK
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/events":
            return self._events()
        if self.path != "/":
            return self._answer(404, "text/plain", b"not found\n")
        self.server.count += 1
        host, port = self.server.server_address[:2]
        page = _PAGE.format(
            app=f"{host!s}:{port}",
            visited=_escape(self.headers.get("X-Forwarded-Host", "?")),
            count=self.server.count,
            mark=self.server.mark,
        )
        self._answer(200, "text/html; charset=utf-8", page.encode())

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= MAX_BODY:
            return self._answer(413, "text/plain", b"too long\n")
        self._answer(200, "application/octet-stream", self.rfile.read(length))

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(1, EVENTS + 1):
            self.wfile.write(f"data: event {number} of {EVENTS}\n\n".encode())
            self.wfile.flush()
            if number < EVENTS:
                time.sleep(EVENT_SECONDS)
        self.close_connection = True

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """The agent tells of requests."""


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


@contextmanager
def demo_app(mark: str) -> Iterator[int]:
    """Run the app on a free port of 127.0.0.1, which it gives; ``mark`` is a word on its page."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.mark = mark
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
