"""An app that says who it is and which Host it saw: ``named_app.py NAME WHERE [KEY CERTIFICATE]``.

``WHERE`` is ``ADDRESS:PORT``, or the path of a unix socket. A request for ``/meet`` is answered once there
are two.
"""

from __future__ import annotations

import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import ThreadingUnixStreamServer
from threading import Barrier

MEETING = Barrier(2)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/meet":
            MEETING.wait(10)
        body = f"{sys.argv[1]} saw {self.headers['Host']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return super().address_string() if self.client_address else "a peer"


def main() -> None:
    where = sys.argv[2]
    address, _, port = where.rpartition(":")
    server = (
        ThreadingUnixStreamServer(where, Handler)
        if "/" in where
        else ThreadingHTTPServer((address, int(port)), Handler)
    )
    if key_and_certificate := sys.argv[3:]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(key_and_certificate[1], key_and_certificate[0])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
