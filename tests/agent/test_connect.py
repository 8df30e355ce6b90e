"""``connect`` and ``connect_async`` against a whole server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import wellhead
from tests.agent.conftest import House, visit
from tests.kit.small_apps import TextApp, served
from tests.kit.upstreams import PATIENCE
from wellhead import Exchange, Status, errors
from wellhead.agent.state import Kept, TunnelState
from wellhead.model.access import Secret
from wellhead.model.names import suggest
from wellhead.model.records import TunnelStatus
from wellhead.net.tls import client_context
from wellhead.profile import Profile


class _App(TextApp):
    protocol_version = "HTTP/1.1"

    def text(self) -> str:
        return f"{self.path} {self.headers['Host']}"


@pytest.fixture(scope="module")
def app() -> Iterator[int]:
    """The port of a small application."""
    with served(_App, ThreadingHTTPServer) as port:
        yield port


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def name() -> str:
    return suggest()


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(4 * PATIENCE):
        yield


# The way in


async def test_a_new_tunnel_is_created_kept_and_answered_for(
    house: House, app: int, home: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[Exchange] = []
    async with await wellhead.connect_async(
        app, name=name, on_request=told.append, **house.options(home)
    ) as listener:
        assert listener.status.value == "connected"
        assert repr(listener) == f"<TunnelListener {listener.public_url} connected>"
        assert listener.public_url.startswith(f"https://{name}.localhost:")
        assert listener.tunnel is not None and listener.tunnel.tunnel_name == name
        for url in listener.public_urls:
            response = await asyncio.to_thread(visit, url, house, "/a?b=c")
            assert response.status_code == 200
            assert response.text == f"/a?b=c localhost:{app}"
    assert listener.status is Status.CLOSED
    assert [(one.method, one.target, one.status) for one in told] == [("GET", "/a?b=c", 200)] * 2
    kept = TunnelState(home, name).load(house.url)
    assert kept is not None and kept.tunnel_id == listener.tunnel.id and kept.connect_secret is not None
    assert capfd.readouterr().err.count(kept.connect_secret.reveal()) == 1


async def test_the_second_time_the_kept_secret_opens_the_door_and_nothing_is_shown(
    house: House, app: int, home: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for round in range(2):
        listener = await wellhead.connect_async(app, name=name, **house.options(home))
        await listener.aclose()
        assert ("whs_" in capfd.readouterr().err) == (round == 0)


async def test_without_a_kept_secret_the_key_opens_the_door(
    house: House, app: int, home: Path, tmp_path: Path, name: str
) -> None:
    await (await wellhead.connect_async(app, name=name, **house.options(home))).aclose()
    async with await wellhead.connect_async(app, name=name, **house.options(tmp_path / "b")) as listener:
        assert (await asyncio.to_thread(visit, listener.public_url, house)).status_code == 200
    assert TunnelState(tmp_path / "b", name).load(house.url) is None


async def test_a_secret_alone_opens_the_door_of_its_tunnel(
    house: House, app: int, home: Path, tmp_path: Path, name: str
) -> None:
    await (await wellhead.connect_async(app, name=name, **house.options(home))).aclose()
    kept = TunnelState(home, name).load(house.url)
    assert kept is not None and kept.connect_secret is not None
    async with await wellhead.connect_async(
        app, name=name, url=house.url, ca_file=house.ca_file, secret=kept.connect_secret,
        state_dir=tmp_path / "b",
    ) as listener:  # fmt: skip
        assert listener.tunnel is None
        assert listener.public_url.startswith(f"https://{name}.localhost:")
        assert (await asyncio.to_thread(visit, listener.public_url, house)).status_code == 200


async def test_a_kept_secret_that_is_no_longer_good_gives_way_to_the_key(
    house: House, app: int, home: Path, name: str
) -> None:
    async with await wellhead.connect_async(app, name=name, **house.options(home)) as listener:
        assert listener.tunnel is not None
        tunnel_id = listener.tunnel.id
    TunnelState(home, name).save(house.url, Kept(tunnel_id, Secret("whs_old")))
    async with await wellhead.connect_async(app, name=name, **house.options(home)) as listener:
        assert (await asyncio.to_thread(visit, listener.public_url, house)).status_code == 200
    assert TunnelState(home, name).load(house.url) == Kept(tunnel_id, None)


async def test_without_a_name_one_is_made_up_and_remembered_for_the_upstream(
    house: House, app: int, home: Path
) -> None:
    names = []
    for _ in range(2):
        async with await wellhead.connect_async(app, **house.options(home)) as listener:
            assert listener.tunnel is not None
            names.append(listener.tunnel.tunnel_name)
    assert names[0] == names[1]
    assert Profile.load(home).names == {f"http://localhost:{app}": names[0]}


@pytest.mark.parametrize("choice", ["restore", "error"])
async def test_a_tunnel_that_is_being_removed_is_restored_or_an_error(
    house: House, app: int, home: Path, name: str, choice: str
) -> None:
    with house.client() as client:
        tunnel = client.tunnels.create(name).tunnel
        client.tunnels.delete(tunnel.id)
        options = house.options(home)
        if choice == "error":
            with pytest.raises(errors.TunnelRemoved, match="on_pending_removal"):
                await wellhead.connect_async(app, name=name, on_pending_removal="error", **options)
            assert client.tunnels.get(tunnel.id).status is TunnelStatus.PENDING_REMOVAL
        else:
            async with await wellhead.connect_async(app, name=name, **options) as listener:
                assert (await asyncio.to_thread(visit, listener.public_url, house)).status_code == 200
            assert client.tunnels.get(tunnel.id).status is TunnelStatus.ACTIVE


# Wrong turns


async def test_a_wrong_key_is_one_error_of_the_control_plane(house: House, app: int, home: Path) -> None:
    options = house.options(home)
    options["api_key"] = Secret("wh_wrong")
    with pytest.raises(errors.Unauthorized):
        await wellhead.connect_async(app, name="abc", **options)


async def test_a_wrong_secret_alone_is_rejected_for_good(
    house: House, app: int, home: Path, name: str
) -> None:
    with pytest.raises(errors.SecretRejected):
        await wellhead.connect_async(
            app, name=name, url=house.url, ca_file=house.ca_file, secret="whs_wrong", state_dir=home
        )


async def test_a_server_that_is_not_trusted_is_told_nothing(house: House, app: int, home: Path) -> None:
    with pytest.raises(errors.TrustError):
        await wellhead.connect_async(app, name="abc", url=house.url, api_key=house.key, state_dir=home)
    with pytest.raises(errors.TrustError):
        await wellhead.connect_async(app, name="abc", url=house.url, secret="whs_x", state_dir=home)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "../x"}, {"name": "Not A Name"}, {"on_pending_removal": "maybe"}, {"host_header": "a b"},
     {"forward_to": "ftp://x"}],
)  # fmt: skip
async def test_a_wrong_argument_is_refused_before_anything_is_created(
    house: House, home: Path, wrong: dict[str, str]
) -> None:
    arguments = {"forward_to": "8000", "name": suggest(), **house.options(home), **wrong}
    with pytest.raises(errors.InputError):
        await wellhead.connect_async(**arguments)  # type: ignore[arg-type]  # wrong on purpose
    with house.client() as client:
        assert client.tunnels.find(str(arguments["name"])) is None


async def test_an_unknown_argument_is_refused(house: House) -> None:
    with pytest.raises(TypeError, match="colour"):
        await wellhead.connect_async(8000, colour="red")  # type: ignore[call-arg]  # wrong on purpose


async def test_secrets_never_show_in_state_names_or_representations(
    house: House, app: int, home: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with await wellhead.connect_async(app, name=name, print_secret=False, **house.options(home)) as it:
        carriers = [vars(carrier) for carrier in it._uplink._carriers]
        shown = f"{it!r} {vars(it)} {vars(it._uplink)} {carriers} {caplog.text}"
    secret = json.loads(TunnelState(home, name).path.read_text())["servers"][house.url]["connect_secret"]
    assert secret not in shown and house.key.reveal() not in shown


# Two ways to drive it


async def test_the_async_pair_does_not_mix_with_the_sync_one(
    house: House, app: int, home: Path, name: str
) -> None:
    async with await wellhead.connect_async(app, name=name, **house.options(home)) as listener:
        for call in (listener.wait, listener.close, listener.__enter__):
            with pytest.raises(errors.StateError, match="connect_async"):
                call()


def test_the_sync_pair_does_not_mix_with_the_async_one(house: House, app: int, home: Path, name: str) -> None:
    with wellhead.connect(app, name=name, **house.options(home)) as listener:
        for call in (listener.serve_forever, listener.aclose, listener.__aenter__):
            with pytest.raises(errors.StateError, match="wellhead.connect:"):
                asyncio.run(call())


def test_a_sync_listener_works_beside_its_caller_until_it_is_closed(
    house: House, app: int, home: Path, name: str
) -> None:
    statuses: list[Status] = []
    listener = wellhead.connect(
        app, name=name, on_status=lambda status, error: statuses.append(status), **house.options(home)
    )
    assert visit(listener.public_url, house).status_code == 200
    assert listener.wait(0.05) is False
    closer = threading.Timer(0.1, listener.close)
    closer.start()
    assert listener.wait(PATIENCE) is True
    closer.join()
    listener.close()
    assert statuses == [Status.CONNECTED, Status.CLOSED]
    assert "wellhead" not in [thread.name for thread in threading.enumerate()]


def test_an_error_of_a_sync_connect_is_raised_where_it_was_called(house: House, home: Path) -> None:
    options = house.options(home)
    options["api_key"] = Secret("wh_wrong")
    with pytest.raises(errors.Unauthorized):
        wellhead.connect(8000, name="abc", **options)
    assert "wellhead" not in [thread.name for thread in threading.enumerate()]


async def test_serve_forever_ends_when_the_listener_is_closed(
    house: House, app: int, home: Path, name: str
) -> None:
    listener = await wellhead.connect_async(app, name=name, **house.options(home))
    serving = asyncio.ensure_future(listener.serve_forever())
    await asyncio.sleep(0)
    await listener.aclose()
    await asyncio.wait_for(serving, PATIENCE)
    await listener.aclose()


async def test_cancelling_serve_forever_closes_the_tunnel(
    house: House, app: int, home: Path, name: str
) -> None:
    listener = await wellhead.connect_async(app, name=name, **house.options(home))
    serving = asyncio.ensure_future(listener.serve_forever())
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert serving.cancelled() and listener.status is Status.CLOSED


async def test_a_callback_that_fails_does_not_disturb_the_traffic(
    house: House, app: int, home: Path, name: str
) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError("of the user's")

    async with await wellhead.connect_async(
        app, name=name, on_status=fails, on_request=fails, **house.options(home)
    ) as listener:
        for _ in range(2):
            assert (await asyncio.to_thread(visit, listener.public_url, house)).status_code == 200


# TLS that ends here


def _issued(home: Path, name: str) -> bytes:
    return (home / "tunnels" / name / "tls-chain.pem").read_bytes()


async def test_a_passthrough_tunnel_is_made_certified_and_answered_for(
    house: House, app: int, home: Path, name: str
) -> None:
    told: list[Exchange] = []
    async with await wellhead.connect_async(
        app, name=name, tls_mode="passthrough", on_request=told.append, **house.options(home)
    ) as listener:
        (url,) = [url for url in listener.public_urls if url.startswith("https:")]
        response = await asyncio.to_thread(visit, url, house, "/a?b=c")
        assert response.status_code == 200 and response.text.startswith("/a?b=c localhost:")
        with house.client() as client:
            tunnel = client.tunnels.get(listener.tunnel.id if listener.tunnel else "")
        assert tunnel.status is TunnelStatus.ACTIVE and tunnel.cert_pem is not None
        assert _issued(home, name).startswith(tunnel.cert_pem.encode())
    assert [(exchange.target, exchange.status) for exchange in told] == [("/a?b=c", 200)]


async def test_a_visitor_that_keeps_its_connection_for_later_does_not_hold_up_a_close(
    house: House, app: int, home: Path, name: str
) -> None:
    listener = await wellhead.connect_async(
        app, name=name, tls_mode="passthrough", drain_seconds=60, **house.options(home)
    )
    parts = urlsplit(listener.public_url)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", parts.port, ssl=client_context(ca_file=house.ca_file), server_hostname=parts.hostname
    )
    writer.write(f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    began = asyncio.get_running_loop().time()
    await listener.aclose()
    assert asyncio.get_running_loop().time() - began < 15
    await reader.read()
    writer.close()


async def test_the_next_start_takes_mode_and_certificate_as_they_are(
    house: House, app: int, home: Path, name: str
) -> None:
    listener = await wellhead.connect_async(app, name=name, tls_mode="passthrough", **house.options(home))
    await listener.aclose()
    before = _issued(home, name)
    async with await wellhead.connect_async(app, name=name, **house.options(home)) as listener:
        assert (await asyncio.to_thread(visit, listener.public_url, house)).status_code == 200
    assert _issued(home, name) == before


async def test_a_name_that_is_taken_anew_gets_a_new_key(
    house: House, app: int, home: Path, name: str
) -> None:
    """What was certified for the tunnel that had the name before is void."""
    for _ in range(2):
        listener = await wellhead.connect_async(app, name=name, tls_mode="passthrough", **house.options(home))
        await listener.aclose()
        keys = {(home / "tunnels" / name / "tls-key.pem").read_bytes()}
        with house.client() as client:
            assert listener.tunnel is not None
            client.tunnels.delete(listener.tunnel.id)
            client.tunnels.force_delete(listener.tunnel.id)
    async with await wellhead.connect_async(
        app, name=name, tls_mode="passthrough", **house.options(home)
    ) as listener:
        assert (await asyncio.to_thread(visit, listener.public_url, house)).status_code == 200
        assert (home / "tunnels" / name / "tls-key.pem").read_bytes() not in keys


async def test_a_certificate_is_renewed_when_the_server_is_asked_to(
    house: House, app: int, home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wellhead.agent.renewal.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("wellhead.agent.renewal.GLANCE_SECONDS", 0.1)
    renewed: asyncio.Queue[Exception | None] = asyncio.Queue()
    async with await wellhead.connect_async(
        app, name=name, tls_mode="passthrough",
        on_certificate=lambda ends, error: renewed.put_nowait(error), **house.options(home),
    ) as listener:  # fmt: skip
        before = _issued(home, name)
        with house.client() as client:
            assert listener.tunnel is not None
            (record,) = await asyncio.to_thread(
                lambda: client.certs.list(tunnel_id=str(listener.tunnel and listener.tunnel.id))
            )
            await asyncio.to_thread(client.certs.renew, record.id)
        assert await renewed.get() is None
        assert _issued(home, name) != before
        assert (await asyncio.to_thread(visit, listener.public_url, house)).status_code == 200


async def test_a_tunnel_keeps_the_mode_that_it_was_made_with(
    house: House, app: int, home: Path, name: str
) -> None:
    listener = await wellhead.connect_async(app, name=name, **house.options(home))
    await listener.aclose()
    with pytest.raises(errors.InputError, match="has tls_mode edge, not passthrough"):
        await wellhead.connect_async(app, name=name, tls_mode="passthrough", **house.options(home))


async def test_a_connect_secret_alone_gets_no_certificate(house: House, app: int, home: Path) -> None:
    options = house.options(home)
    with pytest.raises(errors.SettingsError, match="needs an API key"):
        await wellhead.connect_async(
            app, name="some-name", tls_mode="passthrough", secret="whs_x",
            url=options["url"], ca_file=options["ca_file"], state_dir=options["state_dir"],
        )  # fmt: skip


@pytest.mark.parametrize(("upstream", "mode"), [("8000", "both"), ("tls://localhost:9443", "edge")])
async def test_modes_that_are_none_or_do_not_fit_the_upstream_are_refused(
    house: House, home: Path, name: str, upstream: str, mode: str
) -> None:
    with pytest.raises(errors.InputError, match="tls_mode must be"):
        await wellhead.connect_async(upstream, name=name, tls_mode=mode, **house.options(home))
    with house.client() as client:
        assert client.tunnels.find(name) is None
