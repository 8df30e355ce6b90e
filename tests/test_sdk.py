from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import wellhead
from tests.kit.programs import Edge, eventually
from wellhead import AsyncWellhead, Wellhead
from wellhead.errors import SettingsError
from wellhead.model.access import Secret
from wellhead.profile import Profile

KEY = Secret("wh_test")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WELLHEAD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge") / "home") as edge:
        yield edge


def test_every_public_name_is_there() -> None:
    for name in wellhead.__all__:
        assert getattr(wellhead, name) is not None
    with pytest.raises(AttributeError):
        _ = wellhead.Nonsense


def test_arguments_go_before_variables_and_these_before_the_profile(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="no server is known"):
        Wellhead()
    Profile(home, url="https://profile.example", api_key=KEY).save()
    with Wellhead() as server:
        assert server.url == "https://profile.example"
    monkeypatch.setenv("WELLHEAD_URL", "https://variable.example")
    monkeypatch.setenv("WELLHEAD_API_KEY", "wh_variable")
    with Wellhead() as server:
        assert server.url == "https://variable.example"
    with Wellhead(base_url="https://argument.example", api_key="wh_argument") as server:
        assert server.url == "https://argument.example"


def test_a_missing_key_and_an_unreadable_ca_file_are_said(home: Path) -> None:
    with pytest.raises(SettingsError, match="no API key is known for https://localhost"):
        Wellhead(base_url="https://localhost")
    with pytest.raises(SettingsError, match="cannot read the CA file"):
        AsyncWellhead(base_url="https://localhost", api_key=KEY, ca_file=home / "none.pem")


def test_on_the_servers_machine_nothing_has_to_be_given(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELLHEAD_HOME", str(edge.home))
    with Wellhead() as server:
        created = server.tunnels.create("by-itself")
        with server.tunnels.connect(9, name="by-itself", secret=created.connect_secret) as listener:
            assert listener.tunnel is not None and listener.tunnel.id == created.tunnel.id
            eventually(lambda: server.tunnels.get(created.tunnel.id).currently_connected, 20)
        assert [tunnel.tunnel_name for tunnel in server.tunnels.list()] == ["by-itself"]


async def test_the_same_awaited(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELLHEAD_HOME", str(edge.home))
    async with asyncio.timeout(20), AsyncWellhead() as server:
        listener = await server.tunnels.connect(9, name="awaited", print_secret=False)
        async with listener:
            # The record is told of the session when others are served already.
            while True:
                tunnel = await server.tunnels.find("awaited")
                if tunnel is not None and tunnel.currently_connected:
                    break
                await asyncio.sleep(0.05)
            assert listener.tunnel is not None and tunnel.id == listener.tunnel.id
