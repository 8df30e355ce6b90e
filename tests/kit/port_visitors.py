"""Visitors of sandboxes' ports: ``python -m tests.kit.port_visitors AUTHORITY... | --jupyter AUTHORITY``.

Each AUTHORITY is a port's name and the edge's TLS port. Says ``ready`` when all of them are served, and then
every ``EVERY_SECONDS``, as JSON, how many a second there were: bytes of each port, or messages and polls.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial

from websockets.sync.client import connect

READ_BYTES = 256 * 1024
MESSAGES, POLLS = 200, 50  # a second
PATIENCE_SECONDS = 30.0
EVERY_SECONDS = 0.25
CODE = f"""
import time
from IPython.display import display
due = time.monotonic()
while True:
    display({{"text/plain": "x" * 100}}, raw=True)
    due += 1 / {MESSAGES}
    time.sleep(max(0.0, due - time.monotonic()))
"""


class Counted:
    """Sums that threads add to; each thread has its own names."""

    def __init__(self, *names: str) -> None:
        self.sums = dict.fromkeys(names, 0.0)

    def tell(self) -> None:
        """How many a second there were, for ever."""
        before, began = dict(self.sums), time.monotonic()
        while True:
            time.sleep(EVERY_SECONDS)
            now, ended = dict(self.sums), time.monotonic()
            rates = {name: (now[name] - before[name]) / (ended - began) for name in now}
            print(json.dumps(rates), flush=True)
            before, began = now, ended


def dial(authority: str) -> ssl.SSLSocket:
    """A TLS connection to a port's name; the certificate is not verified, its cost is what is measured."""
    hostname, _, port = authority.rpartition(":")
    plain = socket.create_connection(("127.0.0.1", int(port)), PATIENCE_SECONDS)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=hostname)


def stream(authority: str, name: str, counted: Counted, ready: threading.Event) -> None:
    """Read what a port sends, as fast as it comes."""
    buffer = bytearray(READ_BYTES)
    with dial(authority) as visitor:
        visitor.sendall(f"GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        head = visitor.recv(READ_BYTES)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"{authority}: {head[:200]!r}")
        ready.set()
        while count := visitor.recv_into(buffer):
            counted.sums[name] += count
    raise SystemExit(f"{authority}: it ended")


def poll(authority: str, counted: Counted, ready: threading.Event) -> None:
    """Ask for the list of kernels at fixed times, on one connection."""
    client = http.client.HTTPSConnection(authority)
    client.sock = dial(authority)
    due = time.monotonic()
    while True:
        began = time.perf_counter()
        client.request("GET", "/api/kernels", headers={"Host": authority})
        reply = client.getresponse()
        if reply.status != 200 or not reply.read().startswith(b"["):
            raise SystemExit(f"{authority}: {reply.status}")
        counted.sums["polls"] += 1
        counted.sums["waited"] += time.perf_counter() - began
        ready.set()
        due = max(due + 1 / POLLS, time.monotonic() - 1.0)
        time.sleep(max(0.0, due - time.monotonic()))


def hear(authority: str, counted: Counted, ready: threading.Event) -> None:
    """A notebook whose cell displays something all the time."""
    made = http.client.HTTPSConnection(authority)
    made.sock = dial(authority)
    made.request("POST", "/api/kernels", b"{}", {"Host": authority, "Content-Type": "application/json"})
    kernel = json.loads(made.getresponse().read())["id"]
    url = f"ws://{authority}/api/kernels/{kernel}/channels"  # in the TLS that is there
    with dial(authority) as there, connect(url, sock=there, compression=None, max_size=None) as notebook:
        notebook.send(json.dumps(_execute(CODE)))
        for text in notebook:
            if json.loads(text)["msg_type"] == "error":
                raise SystemExit(f"{authority}: {text!r}")
            counted.sums["messages"] += 1
            ready.set()


def _execute(code: str) -> dict[str, object]:
    header = {
        "msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": uuid.uuid4().hex,
        "username": "", "version": "5.3", "date": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
    }
    return {
        "channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "buffers": [],
        "content": content,
    }  # fmt: skip


def main(argv: list[str]) -> None:
    if argv[0] == "--jupyter":
        counted = Counted("messages", "polls", "waited")
        works = [partial(hear, argv[1], counted), partial(poll, argv[1], counted)]
    else:
        names = list(map(str, range(len(argv))))
        counted = Counted(*names)
        works = [partial(stream, each, name, counted) for each, name in zip(argv, names, strict=True)]
    served = [threading.Event() for _ in works]
    for work, ready in zip(works, served, strict=True):
        threading.Thread(target=_or_exit, args=(work, ready), daemon=True).start()
    for ready in served:
        if not ready.wait(PATIENCE_SECONDS):
            raise SystemExit("not served in time")
    print("ready", flush=True)
    counted.tell()


def _or_exit(work: Callable[[threading.Event], None], ready: threading.Event) -> None:
    """A visitor that fails ends the program: what the others measure would be something else."""
    try:
        work(ready)
    except BaseException as error:
        print(f"failed: {error!r}", flush=True)
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
