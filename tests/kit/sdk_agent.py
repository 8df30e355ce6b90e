"""An agent as a user of the official SDK writes it; by the SDK's own Python; imports nothing of ours.

``sdk_agent.py NAME... (--forward-to URL | --app FILE)``: the ASGI app is ``app`` in that file.
Several names are several agents, each in a thread of its own.
``INKBOX_BASE_URL`` and ``INKBOX_API_KEY`` say where to. Prints ``status …``, ``url …``, and how it ended.
"""

from __future__ import annotations

import argparse
import logging
import os
import runpy
import sys
import threading
from typing import Any

from inkbox import Inkbox


def said(text: str) -> None:
    """Print a line in one piece, whichever thread it is from."""
    os.write(1, text.encode() + b"\n")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--forward-to")
    where.add_argument("--app")
    parser.add_argument("--pool-size", type=int)
    parser.add_argument("--zone")
    # The older generation's alone.
    parser.add_argument("--tls-mode")
    parser.add_argument("--secret")
    parser.add_argument("--on-pending-removal")
    flags = parser.parse_args()
    logging.basicConfig(format="log %(levelname)s %(name)s %(message)s")
    options: dict[str, Any] = {
        "pool_size": flags.pool_size,
        "data_plane_zone": flags.zone,
        "tls_mode": flags.tls_mode,
        "secret": flags.secret,
        "on_pending_removal": flags.on_pending_removal,
    }
    given = {name: option for name, option in options.items() if option is not None}
    target = flags.forward_to if flags.app is None else runpy.run_path(flags.app)["app"]
    inkbox = Inkbox(os.environ["INKBOX_API_KEY"], base_url=os.environ["INKBOX_BASE_URL"])

    def serve(name: str) -> int:
        try:
            listener = inkbox.tunnels.connect(
                name=name, forward_to=target, on_status=lambda status: said(f"status {status}"), **given
            )
            said(f"url {listener.public_url}")
            listener.wait()
        except Exception as error:
            said(f"ended {type(error).__name__}: {error}")
            return 3
        said("ended")
        return 0

    first, *others = flags.names
    for name in others:
        threading.Thread(target=serve, args=(name,), daemon=True).start()
    return serve(first)


if __name__ == "__main__":
    sys.exit(main())
