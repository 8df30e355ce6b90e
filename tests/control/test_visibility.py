from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.control.conftest import PUBLIC
from tests.kit.control import built, caller
from tests.kit.fake_hosts import FakeHost, FakeHosts
from wellhead.control.fleet import Fleet
from wellhead.control.store import Store
from wellhead.model.access import Secret
from wellhead.model.sandboxes import SandboxId
from wellhead.model.visibility import PORTS_MAX, PortAccess, Visibility
from wellhead.settings import ServerSettings


async def created(api: httpx.AsyncClient, **asked: object) -> str:
    answer = await api.post("/sandboxes", json=asked)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def shown(api: httpx.AsyncClient, sandbox: str) -> tuple[object, object, object]:
    said = (await api.get(f"/sandboxes/{sandbox}")).json()
    return said["visibility"], said["port_visibility"], said["auto_resume"]


def access_of(store: Store, sandbox: str) -> PortAccess:
    view = store.directory.sandbox(SandboxId(sandbox))
    assert view is not None
    return view.access


async def test_ports_are_private_unless_somebody_says_otherwise(
    api: httpx.AsyncClient, host: FakeHost, store: Store
) -> None:
    sandbox = await created(api)
    assert await shown(api, sandbox) == ("private", {}, False)
    assert access_of(store, sandbox) == PortAccess()


async def test_the_record_names_the_url_of_its_ports(api: httpx.AsyncClient, host: FakeHost) -> None:
    sandbox = await created(api)
    said = (await api.get(f"/sandboxes/{sandbox}")).json()
    assert said["url"] == f"https://{{port}}-{sandbox}.example.org:8443"
    assert said["plain_url"] == f"http://{{port}}-{sandbox}.example.org:8080"


@pytest.mark.parametrize(
    ("setting", "with_host", "expected"),
    [
        ("auto", False, "private"),
        ("auto", True, "public"),
        ("team", True, "team"),
        ("private", True, "private"),
        ("public", False, "public"),
    ],
)
async def test_a_setting_says_what_a_new_sandbox_is(
    setting: str, with_host: bool, expected: str, store: Store, fleet: Fleet, admin: Secret, host: FakeHost
) -> None:
    settings = ServerSettings.model_validate({"sandbox_visibility": setting, "with_host": with_host})
    async with caller(built(store, PUBLIC, settings, fleet=fleet), admin) as api:
        unsaid, said = await created(api), await created(api, visibility="team")
        assert (await shown(api, unsaid))[0] == expected and (await shown(api, said))[0] == "team"
    assert settings.opens_ports == (setting == "auto" and with_host)


async def test_what_a_create_says_of_its_ports_is_kept_and_told_to_the_edge(
    api: httpx.AsyncClient, host: FakeHost, store: Store
) -> None:
    ports = {"8080": "private", "3000": "team", "65535": "public"}
    sandbox = await created(api, visibility="public", port_visibility=ports, auto_resume=True)
    assert await shown(api, sandbox) == ("public", ports, True)
    access = access_of(store, sandbox)
    assert [access.of(port) for port in (80, 8080, 3000)] == [
        Visibility.PUBLIC,
        Visibility.PRIVATE,
        Visibility.TEAM,
    ]
    assert access.auto_resume


async def test_a_change_names_what_changes_and_null_takes_a_port_back(
    api: httpx.AsyncClient, host: FakeHost, store: Store, hosts: FakeHosts
) -> None:
    sandbox = await created(api, metadata={"a": "b"}, port_visibility={"3000": "public", "8080": "team"})
    calls = len(hosts.calls)

    async def change(**fields: object) -> tuple[object, object, object]:
        answer = await api.patch(f"/sandboxes/{sandbox}", json=fields)
        assert answer.status_code == 200, answer.text
        return await shown(api, sandbox)

    assert await change(port_visibility={"9000": "public"}) == (
        "private",
        {"3000": "public", "8080": "team", "9000": "public"},
        False,
    )
    assert await change(visibility="team", port_visibility={"3000": None, "1": None, "8080": "private"}) == (
        "team",
        {"8080": "private", "9000": "public"},
        False,
    )
    assert await change(auto_resume=True) == ("team", {"8080": "private", "9000": "public"}, True)
    assert await change(auto_resume=None, visibility=None, port_visibility=None) == await change()
    assert access_of(store, sandbox) == PortAccess(
        Visibility.TEAM, ((8080, Visibility.PRIVATE), (9000, Visibility.PUBLIC)), auto_resume=True
    )
    said = (await api.get(f"/sandboxes/{sandbox}")).json()
    assert said["metadata"] == {"a": "b"} and len(hosts.calls) == calls, "no matter of the host"


async def test_nobody_waits_for_a_host_to_close_a_port(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts, store: Store
) -> None:
    sandbox = await created(api, visibility="public")
    hosts.held = asyncio.Event()
    pausing = asyncio.create_task(api.post(f"/sandboxes/{sandbox}/pause"))
    await hosts.asked.wait()
    async with asyncio.timeout(10):
        await api.patch(f"/sandboxes/{sandbox}", json={"visibility": "private"})
    assert access_of(store, sandbox).default is Visibility.PRIVATE
    hosts.held.set()
    assert (await pausing).json()["visibility"] == "private"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"visibility": "everybody"}, '"visibility" "everybody": input should be \'private\''),
        ({"visibility": 1}, '"visibility"'),
        ({"auto_resume": "yes"}, '"auto_resume" "yes"'),
        ({"port_visibility": {"0": "public"}}, 'port "0" is not a number from 1 to 65535'),
        ({"port_visibility": {"65536": "public"}}, 'port "65536" is not'),
        ({"port_visibility": {"080": "public"}}, 'port "080" is not'),
        ({"port_visibility": {"http": "public"}}, 'port "http" is not'),
        ({"port_visibility": {"80": "none"}}, "port_visibility.80"),
        ({"port_visibility": {str(n): "team" for n in range(1, 66)}}, "65 ports, at most 64"),
        ({"links_epoch": 0}, '"links_epoch" is not a field'),
    ],
)
async def test_what_is_no_visibility_is_refused_with_the_value_and_the_bound(
    api: httpx.AsyncClient, host: FakeHost, asked: dict[str, object], said: str
) -> None:
    sandbox = await created(api)
    for answer in (
        await api.post("/sandboxes", json=asked),
        await api.patch(f"/sandboxes/{sandbox}", json=asked),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "invalid_request")
        assert said in error["message"], error
    assert await shown(api, sandbox) == ("private", {}, False)


async def test_ports_that_add_up_to_more_than_may_be_are_refused_before_anything_is_changed(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts
) -> None:
    ports = {str(n): "team" for n in range(1, PORTS_MAX + 1)}
    sandbox = await created(api, port_visibility=ports)
    calls = len(hosts.calls)
    change = {"port_visibility": {"9000": "team"}, "timeout_sec": 60, "visibility": "public"}
    answer = await api.patch(f"/sandboxes/{sandbox}", json=change)
    assert answer.status_code == 422 and "65 ports with a visibility of their own" in answer.text
    assert await shown(api, sandbox) == ("private", ports, False) and len(hosts.calls) == calls
    change["port_visibility"] = {"1": None, "9000": "team"}
    assert (await api.patch(f"/sandboxes/{sandbox}", json=change)).status_code == 200


async def test_a_sandbox_that_is_over_is_opened_to_nobody(api: httpx.AsyncClient, host: FakeHost) -> None:
    sandbox = await created(api)
    await api.delete(f"/sandboxes/{sandbox}")
    answer = await api.patch(f"/sandboxes/{sandbox}", json={"visibility": "public"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_state")


async def test_who_opened_a_port_is_in_the_audit(api: httpx.AsyncClient, host: FakeHost) -> None:
    sandbox = await created(api)
    await api.patch(f"/sandboxes/{sandbox}", json={"port_visibility": {"3000": "public"}})
    await api.patch(f"/sandboxes/{sandbox}", json={"port_visibility": {"3000": "public"}})
    entries = (await api.get("/audit", params={"target_id": sandbox})).json()["entries"]
    assert [entry["action"] for entry in entries] == ["sandbox.update", "sandbox.create"]
    assert (entries[0]["before"]["port_visibility"], entries[0]["after"]["port_visibility"]) == (
        {},
        {"3000": "public"},
    )


@pytest.mark.parametrize("base", ["http://control/api/v1/capsules", "http://control/legacy/api/v1/capsules"])
async def test_what_other_clients_send_makes_a_sandbox_as_before(
    base: str, api: httpx.AsyncClient, host: FakeHost
) -> None:
    asked = {"template": "minimal", "vcpus": 1, "memory_mb": 512, "timeout_sec": 0}
    made = await api.post(base, json=asked)
    assert made.status_code == 201
    assert (await api.patch(f"{base}/{made.json()['id']}", json={"visibility": "team"})).json()[
        "visibility"
    ] == "team"
