"""What a template has begun with every sandbox of it."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.kit.api_host import LiveGuest, live_guest
from tests.kit.programs import quiet_port
from wellhead.errors import HostError
from wellhead.host.guest_link import GuestLink
from wellhead.host.runtime.runtime import Running, SandboxSpec, Template
from wellhead.host.startup import TAG, begin
from wellhead.model.sandboxes import new_sandbox_id

LISTENS = """
import os, socket, time
listening = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
time.sleep(600)
"""


@pytest.fixture
def guest() -> Iterator[LiveGuest]:
    with live_guest() as guest:
        yield guest


def _running(guest: LiveGuest, **template: object) -> Running:
    plain = Template("mine", user=getpass.getuser(), home=str(guest.home))
    made = replace(plain, **template)  # type: ignore[arg-type]  # of a test
    return Running(SandboxSpec(new_sandbox_id(), made), guest.path, paused=False)


async def test_a_sandbox_is_there_when_what_begins_with_it_listens(guest: LiveGuest) -> None:
    port = quiet_port()
    running = _running(guest, start=(sys.executable, "-c", LISTENS), healthy_port=port)
    await begin(running, {"PORT": str(port)})
    assert [each["tag"] for each in await GuestLink(guest.path).processes()] == [TAG]
    assert port in {each["port"] for each in await GuestLink(guest.path).ports()}


async def test_what_ends_before_it_listens_is_a_failure_at_once(guest: LiveGuest) -> None:
    running = _running(guest, start=("true",), healthy_port=quiet_port())
    with pytest.raises(HostError, match="ended before port"):
        await begin(running, {})


async def test_what_listens_too_late_is_a_failure(guest: LiveGuest) -> None:
    port = quiet_port()
    running = _running(guest, start=("sleep", "600"), healthy_port=port)
    with pytest.raises(HostError, match=f"nothing listens on port {port} of template mine after 0.3 s"):
        await begin(running, {}, seconds=0.3)


async def test_a_template_that_begins_with_nothing_is_not_asked_for_it(guest: LiveGuest) -> None:
    await begin(_running(guest), {})
    await begin(_running(guest, start=("sleep", "600")), {})
    assert len(await GuestLink(guest.path).processes()) == 1
