"""The host of ``wellhead up --with-host`` as a process of its own, begun by the server.

``python -m wellhead.serve_host READY``: the terms come on standard input, and ``READY`` is the number of an
open socket on which it says that it is there. It ends with the server, and its sandboxes do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import socket
import sys
from dataclasses import replace

from wellhead import logs, private
from wellhead.errors import HostRemoved, LocalStateError, WellheadError
from wellhead.host.join import JoinOptions
from wellhead.host.main import RunOptions, join_with, serve
from wellhead.host.membership import Membership
from wellhead.logs import Log
from wellhead.model.access import Secret
from wellhead.net import loop as net_loop
from wellhead.serve_host_process import LOCAL_HOST_NAME, HostTerms

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_log = Log("wellhead.host")


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    ready = socket.socket(fileno=int(sys.argv[1]))
    ready.set_inheritable(False)
    terms = HostTerms.model_validate_json(sys.stdin.buffer.read())
    logs.configure(terms.log_level)
    net_loop.raise_file_limit()
    sys.exit(net_loop.run(_main(terms, ready)))


async def _main(terms: HostTerms, ready: socket.socket) -> int:
    stop = net_loop.stop_event(asyncio.get_running_loop())
    keep = terms.settings.host_keep_sandboxes
    options = RunOptions(terms.settings, terms.state, destroy_at_end=not keep)
    try:
        await _be_member(terms)
        await serve(options, stop, lambda facts: _tell(ready))
    except HostRemoved:
        return 0  # said already; the next start joins anew, where there is a token for it
    except WellheadError as error:
        _log.error("host cannot run", error=error)
        return 1
    return 0


async def _be_member(terms: HostTerms) -> None:
    """Join where this machine is no host yet; the server may have another port than it had."""
    known = await asyncio.to_thread(Membership.load, terms.state)
    if known is None:
        token = await asyncio.to_thread(_token, terms)
        options = JoinOptions(terms.state, token, terms.url, terms.ca_file, LOCAL_HOST_NAME)
        known = await join_with(options, terms.settings)
    authority = terms.url.removeprefix("https://")
    here = replace(known, url=terms.url, edge=authority, ca_file=terms.ca_file)
    if here != known:
        await asyncio.to_thread(here.save, terms.state)


def _token(terms: HostTerms) -> Secret:
    """
    Raises:
        LocalStateError: the control plane left none.
    """
    if (text := private.read(terms.token_file)) is None:
        raise LocalStateError(f"there is no {terms.token_file} to join with; restart the server")
    return Secret(text.strip())


def _tell(ready: socket.socket) -> None:
    with ready, contextlib.suppress(OSError):
        ready.send(b"1")


if __name__ == "__main__":
    main()
