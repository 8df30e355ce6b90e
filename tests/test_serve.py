import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from wellhead.errors import SettingsError
from wellhead.serve import Ready, serve
from wellhead.settings import ServerSettings


@asynccontextmanager
async def serving(tmp_path: Path, **given: object) -> AsyncIterator[Ready]:
    """A whole server in this loop."""
    settings = ServerSettings.load(None, {"data_dir": str(tmp_path / "server"), "http": "off", **given})
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(serve(settings, ready=ready.set_result, stop=stop))
    try:
        async with asyncio.timeout(20):
            waiting: list[asyncio.Future[None] | asyncio.Future[Ready]] = [task, ready]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield ready.result()
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await asyncio.wait({task})


def certified(ready: Ready) -> set[str]:
    """The IP addresses in the certificate that a caller without a name is shown."""
    context = ssl.create_default_context(cafile=ready.ca_file)
    context.check_hostname = False
    host, _, port = ready.https[0].removeprefix("https://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock, context.wrap_socket(sock) as tls:
        names = (tls.getpeercert() or {})["subjectAltName"]
    return {str(ipaddress.ip_address(str(name[1]))) for name in names if name[0] == "IP Address"}


@pytest.mark.parametrize("zone", ["192.0.2.7", "2001:db8::7"])
async def test_a_zone_that_is_an_address_is_certified_beside_this_machines(tmp_path: Path, zone: str) -> None:
    async with serving(tmp_path, https="127.0.0.1:0", domain="example.test", zone=zone) as ready:
        assert await asyncio.to_thread(certified, ready) == {"127.0.0.1", "::1", zone}


@pytest.mark.parametrize("https", ["localhost:0", "0.0.0.0:0"])
async def test_the_address_to_listen_on_may_be_a_name_or_any(tmp_path: Path, https: str) -> None:
    async with serving(tmp_path, https=https) as ready:
        assert await asyncio.to_thread(certified, ready) == {"127.0.0.1", "::1"}


async def test_an_address_of_another_machine_is_refused_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"https: cannot listen on 192\.0\.2\.7:0: "):
        async with serving(tmp_path, https="192.0.2.7:0"):
            pass
