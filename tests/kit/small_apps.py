"""Small applications of the standard library, each behind a socket and in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


class TextApp(BaseHTTPRequestHandler):
    """Answers every GET with ``text()``."""

    def text(self) -> str:
        raise NotImplementedError

    def do_GET(self) -> None:
        body = self.text().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None: ...


class Hello(TextApp):
    """Says hello and the target."""

    def text(self) -> str:
        return f"hello {self.path}"


class NoContent(BaseHTTPRequestHandler):
    """Answers every GET with a 204."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None: ...


@contextmanager
def served(app: type[BaseHTTPRequestHandler], server: type[HTTPServer] = HTTPServer) -> Iterator[int]:
    """An application on a free port of 127.0.0.1, which is given; served until the block ends."""
    with server(("127.0.0.1", 0), app) as made, running(made):
        yield made.server_port


@contextmanager
def running(server: HTTPServer) -> Iterator[None]:
    """Serve in a thread until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
