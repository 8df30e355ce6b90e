"""The host's side of the zygote: it is started, asked for sandboxes, and started again where it died."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from wellhead.errors import HostError
from wellhead.host.runtime.birth import Birth

_START_SECONDS = 30.0
_BIRTH_SECONDS = 30.0
_ANSWER_MAX = 8192  # bytes
_PASSED_ON = ("PATH", "PYTHONPATH", "VIRTUAL_ENV")


class Newborn:
    """A sandbox's first process, on its way. ``pid``: as the machine sees it."""

    def __init__(self, told: socket.socket, pid: int) -> None:
        self._told = told
        self.pid = pid

    async def ready(self) -> None:
        """Until it is shut in and its guest begins.

        Raises:
            HostError: it failed.
        """
        try:
            await _hear(self._told, "ready")
        finally:
            self._told.close()

    def close(self) -> None:
        self._told.close()


class Nursery:
    """The zygote. ``state``: where sandboxes are kept. ``first_id``: the lowest number that their users may
    have; ``why_not_numbered`` says, when it has started, why they cannot have any of their own.
    """

    def __init__(self, state: Path, first_id: int = 0) -> None:
        self._state = state
        self._first_id = first_id
        self.why_not_numbered = ""
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """
        Raises:
            HostError: it does not come up.
        """
        async with self._starting:
            if self._zygote is not None and self._zygote.poll() is None:
                return
            self.close()
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            with its:
                self._zygote = self._spawned(its)
            self._control = ours
            try:
                async with asyncio.timeout(_START_SECONDS):
                    text = await asyncio.get_running_loop().sock_recv(ours, _ANSWER_MAX)
            except TimeoutError as error:
                raise HostError(f"the zygote is not ready after {_START_SECONDS:g} seconds") from error
            if not text:
                raise HostError("the process that sandboxes are forked from ends at its start")
            self.why_not_numbered = str(json.loads(text)["why_not_numbered"])

    async def bear(self, birth: Birth, listening: socket.socket) -> Newborn:
        """Have a first process made, whose guest accepts from ``listening``.

        Raises:
            HostError: it cannot be made.
        """
        await self.start()
        told, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told.setblocking(False)
        try:
            with its:
                await self._send(birth.encode(), [its.fileno(), listening.fileno()])
            pid = (await _hear(told, "pid"))["pid"]
            if not isinstance(pid, int):
                raise HostError(f"the zygote names {pid!r} as a process")
        except BaseException:
            told.close()
            raise
        return Newborn(told, pid)

    def close(self) -> None:
        """Let the zygote end; what it forked goes on."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()
            self._zygote = None

    def _spawned(self, control: socket.socket) -> subprocess.Popen[bytes]:
        # Little of this program's environment: each sandbox's first process begins with it.
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return subprocess.Popen(
            [
                sys.executable, "-P", "-m", "wellhead.host.runtime.zygote", str(control.fileno()),
                self._state, str(self._first_id),
            ],
            pass_fds=[control.fileno()], stdin=subprocess.DEVNULL,
            env={**environment, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    async def _send(self, message: bytes, descriptors: list[int]) -> None:
        assert self._control is not None
        loop = asyncio.get_running_loop()
        while True:
            try:
                socket.send_fds(self._control, [message], descriptors)
                return
            except BlockingIOError:  # more births at once than the socket holds
                writable = loop.create_future()
                loop.add_writer(self._control, writable.set_result, None)
                try:
                    await writable
                finally:
                    loop.remove_writer(self._control)
            except OSError as error:
                raise HostError(f"cannot ask the zygote for a sandbox: {error}") from error


async def _hear(told: socket.socket, word: str) -> dict[str, object]:
    """The next message, which is to have that member."""
    try:
        async with asyncio.timeout(_BIRTH_SECONDS):
            text = await asyncio.get_running_loop().sock_recv(told, _ANSWER_MAX)
    except TimeoutError as error:
        raise HostError(f"a sandbox's first process is silent for {_BIRTH_SECONDS:g} seconds") from error
    except OSError as error:
        raise HostError(f"a sandbox's first process is not heard: {error}") from error
    members: dict[str, object] = json.loads(text) if text else {}
    if word not in members:
        raise HostError(f"a sandbox's first process failed: {members.get('error', 'it was killed')}")
    return members
