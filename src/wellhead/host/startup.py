"""What a template has begun with every sandbox of it, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from wellhead.errors import HostError
from wellhead.host.guest_link import Command, GuestLink
from wellhead.host.runtime.runtime import Running

TAG = "start"
HEALTHY_SECONDS = 60.0  # for its port to be listened on
LOOK_SECONDS = 0.1


async def begin(running: Running, env: Mapping[str, str], seconds: float = HEALTHY_SECONDS) -> None:
    """Start it, and wait until its port is there, at most so long; nothing where the template has none.

    Raises:
        HostError: it cannot be started, ended by itself, or is late.
    """
    template = running.spec.template
    if not template.start:
        return
    link = GuestLink(running.guest_socket)
    await link.start(Command(template.start, env=env, cwd=template.home, user=template.user), tag=TAG)
    port = template.healthy_port
    if port is None:
        return
    try:
        async with asyncio.timeout(seconds):
            while True:
                if await _listens(link, port):
                    return
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError as error:
        raise HostError(
            f"nothing listens on port {port} of template {template.name} after {seconds:g} s"
        ) from error


async def _listens(link: GuestLink, port: int) -> bool:
    if any(each.get("port") == port for each in await link.ports()):
        return True
    if not any(each.get("tag") == TAG for each in await link.processes()):
        raise HostError(f"what begins with the sandbox ended before port {port} was listened on")
    return False
