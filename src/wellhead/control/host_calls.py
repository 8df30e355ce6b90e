"""What the control plane asks hosts, by way of the edge, and how their answers are read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from wellhead.errors import HostAway, HostError, HostNotFound, LinkError
from wellhead.model.sandboxes import HostId, SandboxId
from wellhead.model.text import escape

CallHost = Callable[[HostId, str, str, str, float], Awaitable[tuple[int, str]]]
"""``(host, method, target, body, seconds)`` to status and body; raises LinkError. See ``Feed.call_host``."""

MESSAGE_MAX = 500  # characters of what a host says that are passed on
_by_code = {
    each.code: each
    for kind in HostError.__subclasses__()
    for each in (kind, *kind.__subclasses__())
    if each is not HostAway  # what a host says of others is its own failure
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """A sandbox that a host is to make. ``timeout_seconds`` 0: it is never paused for want of use."""

    id: SandboxId
    template: str
    vcpus: int
    memory_mb: int
    disk_mb: int
    timeout_seconds: int
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Created:
    address: str = ""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Detail:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class _Problem:
    error: _Detail


class HostCalls:
    """Every call raises HostError as the host says; HostAway where it was not reached, or did not answer."""

    def __init__(self, call: CallHost, seconds: float, snapshot_seconds: float) -> None:
        self._call = call
        self._seconds = seconds
        self._snapshot_seconds = snapshot_seconds

    async def create(self, host: HostId, order: Order) -> str:
        """Make a sandbox: its IPv4 address seen from the host, "" without one."""
        body = TypeAdapter(Order).dump_json(order).decode()
        return _read(_Created, await self._ask(host, "POST", "/control/sandboxes", body)).address

    async def destroy(self, host: HostId, sandbox: SandboxId) -> None:
        """End a sandbox; that it is not there is no error."""
        try:
            await self._ask(host, "DELETE", _path(sandbox))
        except HostNotFound:
            pass

    async def pause(self, host: HostId, sandbox: SandboxId) -> None:
        await self._ask(host, "POST", _path(sandbox) + "/pause")

    async def resume(self, host: HostId, sandbox: SandboxId) -> None:
        await self._ask(host, "POST", _path(sandbox) + "/resume")

    async def ping(self, host: HostId, sandbox: SandboxId) -> None:
        """Count it as used now."""
        await self._ask(host, "POST", _path(sandbox) + "/ping")

    async def set_timeout(self, host: HostId, sandbox: SandboxId, seconds: int) -> None:
        await self._ask(host, "PATCH", _path(sandbox), json.dumps({"timeout_seconds": seconds}))

    async def snapshot(self, host: HostId, sandbox: SandboxId, name: str, *, overwrite: bool) -> int:
        """Make a template of a sandbox: its size in bytes."""
        body = json.dumps({"name": name, "overwrite": overwrite})
        answer = await self._ask(host, "POST", _path(sandbox) + "/snapshot", body, self._snapshot_seconds)
        return _read(_Snapshot, answer).size_bytes

    async def remove_template(self, host: HostId, name: str) -> None:
        """That it is not there is no error."""
        try:
            await self._ask(host, "DELETE", f"/control/templates/{quote(name, safe='')}")
        except HostNotFound:
            pass

    async def _ask(
        self, host: HostId, method: str, target: str, body: str = "", seconds: float | None = None
    ) -> str:
        try:
            status, answer = await self._call(host, method, target, body, seconds or self._seconds)
        except LinkError as error:
            raise HostAway(f"host {host} cannot be reached: {error}") from error
        if status >= 400:
            raise _refused(status, answer)
        return answer


def _path(sandbox: SandboxId) -> str:
    return f"/control/sandboxes/{sandbox}"


def _read(kind: type[T], answer: str) -> T:
    try:
        return TypeAdapter(kind).validate_json(answer)
    except ValidationError as error:
        raise HostError("the host's answer is not understood") from error


def _refused(status: int, answer: str) -> HostError:
    try:
        said = TypeAdapter(_Problem).validate_json(answer).error
    except ValidationError:
        return HostError(f"the host answered {status}")
    return _by_code.get(said.code, HostError)(escape(said.message)[:MESSAGE_MAX])


async def nobody(host: HostId, method: str, target: str, body: str, seconds: float) -> tuple[int, str]:
    """A ``CallHost`` for a control plane without an edge."""
    raise LinkError("there is no edge")
