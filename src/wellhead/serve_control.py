"""The control plane as a process of its own: ``python -m wellhead.serve_control FEED``, begun by the server.

``FEED`` is the number of an open socket, the records' feed; the terms come on standard input. Whoever began
it decides when it ends: it heeds no signals, and when the other end of the feed is gone it is gone too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wellhead import links_key, logs, private
from wellhead.control.app import build
from wellhead.control.csr import key_digest
from wellhead.control.feed import Feed
from wellhead.control.fleet import Fleet
from wellhead.control.local_issuer import LocalIssuer, Revocations
from wellhead.control.problems import Problem
from wellhead.control.signing import Signing, SigningTerms
from wellhead.control.store import Store
from wellhead.errors import LocalStateError, ProtocolError, WellheadError
from wellhead.logs import Log
from wellhead.model.access import Secret
from wellhead.model.links import LinkSigner
from wellhead.net import loop as net_loop
from wellhead.net.authority import LocalAuthority
from wellhead.serve_host_process import LOCAL_HOST, LOCAL_HOST_NAME, TOKEN_FILE
from wellhead.serve_process import UNSHOWN_KEY_FILE, Terms
from wellhead.version import VERSION

if TYPE_CHECKING:
    from wellhead.control.public_names import PublicNames

ABANDONED = 70  # exit status where the server is gone (EX_SOFTWARE, sysexits.h)
ADMIN_KEY_FILE = "admin-key"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_log = Log("wellhead.control")


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _end_with_parent()
    feed = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_end_with, args=(os.dup(feed.fileno()),), name="lifeline", daemon=True).start()
    terms = Terms.model_validate_json(sys.stdin.buffer.read())
    logs.configure(terms.log_level)
    sys.exit(net_loop.run(_main(terms, feed)))


def _end_with_parent() -> None:
    """Even where this process is stopped, and could not see the end of the feed."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            # Told at the end of the thread that began this process: its loop's, which ends with the server.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with(number: int) -> None:
    """End when the far end of a socket is closed, whatever the loop does just then.

    What was acknowledged is durable, and nobody is there for more.
    """
    poll = select.poll()
    poll.register(number, 0)  # asks for nothing: a hang-up is told all the same
    poll.poll()
    os._exit(ABANDONED)


async def _main(terms: Terms, sock: socket.socket) -> int:
    _, feed = await asyncio.get_running_loop().create_unix_connection(Feed, sock=sock)
    try:
        if terms.version != VERSION:
            raise LocalStateError(f"version {VERSION} was installed over {terms.version}: restart the server")
        await _serve(terms, feed)
    except ProtocolError as error:
        _log.error("the records' feed broke", error)
        return 1
    except (WellheadError, OSError) as error:
        await feed.fail(str(error))
        return 1
    except Exception as error:
        _log.error("control plane failed", error)
        await feed.fail(f"a fault of its own: {type(error).__name__}")
        return 1
    return 0


async def _serve(terms: Terms, feed: Feed) -> None:
    directory = terms.settings.data_dir
    store = await Store.open(directory / "wellhead.db", sessions_live=terms.resumed)
    async with _closing(store):
        await store.bootstrap(_keep_in(directory))
        if terms.settings.with_host and not (directory / LOCAL_HOST / "host.json").exists():
            token = await store.hosts.offer(LOCAL_HOST_NAME)
            private.write(directory / TOKEN_FILE, token.reveal() + "\n")
        # With the database this server alone holds the directory: the edge reads what is made here.
        authority = LocalAuthority(directory, void_list=terms.public.void_list_url)
        local = LocalIssuer(authority, timedelta(days=terms.settings.local_certificate_days))
        public_names = _public_names(terms, feed)
        issuer = local if public_names is None else public_names.issuer
        signing_terms = SigningTerms.of(terms.settings, issuer)
        own_keys = {key_digest(authority.certificate.public_key())}
        signing = Signing(
            store,
            issuer,
            terms.public,
            signing_terms,
            lambda: own_keys if public_names is None else own_keys | public_names.keys(),
        )
        revocations = Revocations(authority, store.certificates)
        fleet = Fleet(store, feed.call_host, terms.settings, terms.public)
        feed.on_host_seen = fleet.watch.seen
        feed.on_wake = fleet.wakes.wake
        signer = LinkSigner(links_key.load_or_make(directory))
        app = build(
            store, terms.public, terms.settings, signing, revocations, signer,
            feed.settle, public_names, fleet,
        )  # fmt: skip
        async with _closing(signing), _rest(app, terms.socket_path), contextlib.aclosing(fleet):
            _step_back(terms.nice)
            await feed.tell_all(store.directory, made_key=(directory / UNSHOWN_KEY_FILE).exists())
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(_ended, asyncio.create_task(signing.run(), name="revocations"))
                stack.push_async_callback(_ended, asyncio.create_task(fleet.watch.run(), name="hosts"))
                if public_names is not None:
                    await stack.enter_async_context(public_names.renewing(store, signing_terms.budget))
                net_loop.freeze()
                await feed.over


def _public_names(terms: Terms, feed: Feed) -> PublicNames | None:
    if terms.settings.issuer != "acme":
        return None
    from wellhead.control.public_names import PublicNames  # 12 MiB of libraries, which few servers need

    return PublicNames(terms.settings, terms.public, feed)


def _step_back(nice: int) -> None:
    """Traffic first: from now on every thread of this process waits where both want a CPU."""
    threads = os.listdir("/proc/self/task") if sys.platform == "linux" else ["0"]
    for thread in threads:  # on Linux priority is a thread's, and goes to the threads that it begins
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(thread), nice)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _closing(part: Store | Signing) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await part.close()


def _keep_in(directory: Path) -> Callable[[Secret], None]:
    """Writes the admin key where this machine's own programs find it: the one credential kept in clear."""

    def keep(key: Secret) -> None:
        private.write(directory / UNSHOWN_KEY_FILE, "")
        private.write(directory / ADMIN_KEY_FILE, key.reveal() + "\n")

    return keep


@contextlib.asynccontextmanager
async def _rest(app: FastAPI, path: str) -> AsyncIterator[None]:
    """Serve the control plane on a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        _unlink(path)  # of one that was killed; a living one holds the database
        sock.bind(path)
        sock.listen()  # whoever comes before the server has started waits
        server = _Server(
            uvicorn.Config(
                app,
                http=_Http,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=2,
            )
        )
        task = asyncio.create_task(server.serve(sockets=[sock]), name="rest")
        try:
            yield
        finally:
            server.should_exit = True
            await task
            _unlink(path)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class _Http(HttpToolsProtocol):
    """Heads come from the edge, which is strict: what the parser here does not know is the method."""

    def send_400_response(self, msg: str) -> None:
        body = json.dumps(asdict(Problem("a method that nothing here understands"))).encode()
        self.transport.write(
            b"HTTP/1.1 501 Not Implemented\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n%b"
            % (len(body), body)
        )
        self.transport.close()


class _Server(uvicorn.Server):
    """Leaves signals to the program that it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


if __name__ == "__main__":
    main()
