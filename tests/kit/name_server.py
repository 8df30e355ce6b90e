"""A name server for tests: answers A queries from its arguments, until it is told to be silent.

``python tests/kit/name_server.py NAME=ADDRESS ...`` listens on 127.0.0.1:53 of its network namespace and
prints ``serving``. ``*.NAME`` is every name right below it. After SIGUSR1 it answers nothing. Every other
name does not exist.

Source: RFC 1035 section 4.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
from collections.abc import Mapping

A, NAME_ERROR = 1, 3


def answer(query: bytes, addresses: Mapping[str, str]) -> bytes:
    """The reply to one query."""
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode("ascii").lower())
        at += 1 + size
    question = query[12 : at + 5]
    (kind,) = struct.unpack_from("!H", query, at + 1)
    address = addresses.get(".".join(labels)) or addresses.get(".".join(["*", *labels[1:]]))
    found = address is not None and kind == A
    code = 0 if address is not None else NAME_ERROR
    head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, int(found), 0, 0)
    if not found or address is None:
        return head + question
    return head + question + struct.pack("!HHHIH", 0xC00C, A, 1, 0, 4) + socket.inet_aton(address)


def main() -> None:
    addresses = dict(argument.split("=") for argument in sys.argv[1:])
    silent = False

    def be_silent(*_: object) -> None:
        nonlocal silent
        silent = True
        print("silent", flush=True)

    signal.signal(signal.SIGUSR1, be_silent)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 53))
        print("serving", flush=True)
        while True:
            query, peer = sock.recvfrom(4096)
            if not silent:
                sock.sendto(answer(query, addresses), peer)


if __name__ == "__main__":
    main()
