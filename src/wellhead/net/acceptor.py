"""Accepting connections, also when there are more than the machine can hold."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

BATCH: Final = 64  # connections accepted in one turn of the loop
RETRY_SECONDS: Final = 0.25
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

OnSocket = Callable[[socket.socket, str], None]


class Acceptor:
    """Listening sockets and whoever they let in.

    ``on_socket(sock, ip)`` gets every accepted connection, non-blocking, and owns it. ``max_descriptor`` is
    the highest file descriptor a connection may get (0: any): the kernel gives the lowest free number, so
    the number itself says how full the process is, whatever else opened files. Beyond it, and when the
    system has no descriptor left, accepting pauses without spinning and connections wait in the backlog.

    ``on_refused("descriptors")`` is told once per pause.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        on_socket: OnSocket,
        *,
        max_descriptor: int = 0,
        on_refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        self._on_socket = on_socket
        self._max_descriptor = max_descriptor
        self._on_refused = on_refused
        self._listening = False
        self._held = False
        self._retry: asyncio.TimerHandle | None = None
        # One descriptor kept for the worst moment: with it freed, one connection can be taken and
        # closed, so that a client at least hears an end.
        self._spare: int | None = _open_spare()

    @property
    def sockets(self) -> Sequence[socket.socket]:
        return tuple(self._sockets)

    def start(self) -> None:
        self._listen(True)

    def hold(self) -> None:
        """Leave new connections in the kernel's backlog until ``release``."""
        self._held = True
        self._listen(False)

    def release(self) -> None:
        if self._held:
            self._held = False
            if self._retry is None:
                self._listen(True)

    def close(self) -> None:
        """Stop listening: from now on connections are refused by the kernel."""
        self._listen(False)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _listen(self, on: bool) -> None:
        if on == self._listening:
            return
        self._listening = on
        for sock in self._sockets:
            if on:
                self._loop.add_reader(sock.fileno(), self._accept, sock)
            else:
                self._loop.remove_reader(sock.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(BATCH):
            if not self._listening:  # held or paused by what the last one brought about
                return
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._shed(listener)
                    self._pause()
                # Anything else (ENETDOWN, EPROTO, ...) is the connection's own trouble. Source: accept(2).
                return
            sock.setblocking(False)
            if self._max_descriptor and sock.fileno() > self._max_descriptor:
                self._pause()
            self._on_socket(sock, address[0] if isinstance(address, tuple) else "")

    def _shed(self, listener: socket.socket) -> None:
        if self._spare is None:
            return
        os.close(self._spare)
        self._spare = None
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
        self._spare = _open_spare()

    def _pause(self) -> None:
        if self._retry is not None:
            return
        self._on_refused("descriptors")
        self._listen(False)
        self._retry = self._loop.call_later(RETRY_SECONDS, self._retry_accept)

    def _retry_accept(self) -> None:
        self._retry = None
        if self._spare is None:
            self._spare = _open_spare()
        if self._spare is None or not self._room():
            self._retry = self._loop.call_later(RETRY_SECONDS, self._retry_accept)
        elif not self._held:
            self._listen(True)

    def _room(self) -> bool:
        probe = _open_spare()
        if probe is None:
            return False
        os.close(probe)
        return not self._max_descriptor or probe <= self._max_descriptor


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
