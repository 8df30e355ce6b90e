import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.kit.agents import Agent, answer
from tests.kit.csr import pem_for
from wellhead.client import AsyncClient
from wellhead.errors import LocalStateError, SettingsError
from wellhead.net.tls import client_context
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


def root(ready: Ready) -> str:
    """The control plane's base URL."""
    return ready.api.removesuffix("/api/v1")


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


async def test_the_first_start_makes_a_key_and_shows_it_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as first:
        assert first.key is not None
        kept = tmp_path / "server" / "admin-key"
        assert kept.read_text() == first.key.reveal() + "\n" and kept.stat().st_mode & 0o777 == 0o600
        async with AsyncClient(root(first), first.key, ca_file=first.ca_file) as client:
            await client.tunnels.create("my-agent")
    async with serving(tmp_path) as second:
        assert second.key is None
        async with AsyncClient(root(second), first.key, ca_file=second.ca_file) as client:
            assert [tunnel.tunnel_name for tunnel in await client.tunnels.list()] == ["my-agent"]


async def test_a_busy_port_is_told_with_its_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match=f"^http: cannot listen on {address}"):
            async with serving(tmp_path, https="127.0.0.1:0", http=address):
                pass
    assert not (tmp_path / "server" / "wellhead.db").exists(), "nothing was begun"


async def test_a_method_of_nobody_is_refused_in_the_shape_of_all_refusals(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, https="127.0.0.1:0") as ready,
        httpx.AsyncClient(verify=client_context(ca_file=ready.ca_file), trust_env=False) as api,
    ):
        for method in ("BREW", "M-SEARCHES"):
            answer = await api.request(method, f"{root(ready)}/api/v1/tunnels/", headers={"X-API-Key": "x"})
            assert answer.status_code == 501 and list(answer.json()) == ["detail"]
            assert answer.headers["cache-control"] == "no-store"


@asynccontextmanager
async def silent_for(seconds: float) -> AsyncIterator[str]:
    """The URL of an authority that says nothing for a while, and then hangs up."""

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        writer.transport.abort()

    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/directory"


async def test_a_certificate_may_take_longer_than_other_answers_of_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wellhead.serve.CONTROL_GRACE_SECONDS", 0.0)
    hook = {"acme_challenge": "dns-01", "dns_provider": "command", "dns_command": "/bin/true"}
    async with (
        silent_for(3.0) as directory,
        serving(
            tmp_path,
            https="127.0.0.1:0",
            issuer="acme",
            acme_directory=directory,
            api_reply_seconds=2,
            **hook,
        ) as ready,
        httpx.AsyncClient(
            base_url=ready.api, verify=client_context(ca_file=ready.ca_file), trust_env=False, timeout=60
        ) as api,
    ):
        assert ready.key is not None
        api.headers["X-API-Key"] = ready.key.reveal()
        new = {"tunnel_name": "my-agent", "tls_mode": "passthrough"}
        tunnel = (await api.post("/tunnels/", json=new)).json()["tunnel"]
        request = {"csr_pem": pem_for(tunnel["public_host"])}
        answer = await api.post(f"/tunnels/{tunnel['id']}/sign-csr", json=request)
        assert answer.status_code == 503 and "no certificate for now" in answer.json()["detail"]


async def test_one_data_directory_serves_one_server(tmp_path: Path) -> None:
    async with serving(tmp_path, https="127.0.0.1:0"):
        with pytest.raises(LocalStateError):
            async with serving(tmp_path, https="127.0.0.1:0"):
                pass
    async with serving(tmp_path, https="127.0.0.1:0"):
        pass


async def test_an_access_log_that_cannot_be_written_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="access_log: cannot write"):
        async with serving(tmp_path, https="127.0.0.1:0", access_log=str(tmp_path)):
            pass
    assert not (tmp_path / "server" / "admin-key").exists()


async def test_a_reply_that_runs_when_the_server_stops_is_finished_and_logged(tmp_path: Path) -> None:
    log, agent = tmp_path / "access.log", Agent()
    asking: asyncio.Task[bytes] | None = None
    async with serving(tmp_path, https="127.0.0.1:0", http="127.0.0.1:0", access_log=str(log)) as ready:
        assert ready.key is not None
        https, http = (int(url[0].rpartition(":")[2]) for url in (ready.https, ready.http))
        async with AsyncClient(root(ready), ready.key, ca_file=ready.ca_file) as client:
            await client.tunnels.create("my-agent")
        await agent.connect(https, client_context(ca_file=ready.ca_file), "my-agent", ready.key.reveal())
        asking = asyncio.create_task(ask(http, "my-agent.localhost", "/wait"))
        finishing = asyncio.create_task(finish(agent))
        async with asyncio.timeout(5):
            await agent.waiting.wait()
    await finishing
    assert (await asking).endswith(b"at last")
    assert "tunnel=my-agent" in log.read_text() and "target=/wait status=200" in log.read_text()


async def ask(port: int, host: str, target: str) -> bytes:
    """A request on a plain connection of its own; the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    return reply


async def finish(agent: Agent) -> None:
    """Answer the held request once the edge has said that it drains."""
    async with asyncio.timeout(10):
        await agent.draining.wait()
    assert agent.held is not None
    answer(agent.held, b"at last")


async def test_an_address_of_another_machine_is_refused_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"https: cannot listen on 192\.0\.2\.7:0: "):
        async with serving(tmp_path, https="192.0.2.7:0"):
            pass
