"""The guest as a program of its own, where a sandbox is not made by forking: ``python -m wellhead.guest``."""

from __future__ import annotations

import argparse
import socket
import sys

from wellhead.errors import InputError
from wellhead.guest.main import preload, serve
from wellhead.guest.terms import GuestTerms


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m wellhead.guest")
    parser.add_argument("--socket", type=int, required=True, metavar="FD", help="a unix socket that listens")
    parser.add_argument("--terms", required=True, metavar="JSON", help="see wellhead.guest.terms")
    options = parser.parse_args()
    try:
        terms = GuestTerms.from_json(options.terms)
    except InputError as error:
        parser.error(str(error))
    preload()
    return serve(socket.socket(fileno=options.socket), terms)


if __name__ == "__main__":
    sys.exit(main())
