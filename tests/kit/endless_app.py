"""What streams inside a sandbox, with Debian's Python alone: ``python3 endless_app.py PORT...``.

Each port answers any request with bytes that never end, as fast as they are taken.
"""

from __future__ import annotations

import socket
import sys
import threading

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % 10**15
BLOCK = bytes(256 * 1024)


def answer(visitor: socket.socket) -> None:
    with visitor:
        try:
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                if not (more := visitor.recv(65536)):
                    return
                asked += more
            visitor.sendall(HEAD)
            while True:
                visitor.sendall(BLOCK)
        except OSError:
            return


def serve(listener: socket.socket) -> None:
    while True:
        visitor, _ = listener.accept()
        threading.Thread(target=answer, args=(visitor,), daemon=True).start()


if __name__ == "__main__":
    serving = [
        threading.Thread(target=serve, args=(socket.create_server(("127.0.0.1", int(port))),))
        for port in sys.argv[1:]
    ]
    for each in serving:
        each.start()
    print("listening", flush=True)
