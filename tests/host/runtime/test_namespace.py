"""Sandboxes of namespaces live, rest, are found again and leave nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import select
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.sandbox_host import SandboxHost, needs_namespaces, sandbox_host, with_layers
from tests.kit.sandbox_root import run_in, shell
from wellhead.errors import HostError
from wellhead.host.runtime import processes
from wellhead.host.runtime.namespace import NamespaceRuntime
from wellhead.host.runtime.runtime import Template
from wellhead.host.runtime.terms import RuntimeTerms

pytestmark = [needs_namespaces, pytest.mark.timeout(120)]


@pytest.fixture
async def host() -> AsyncIterator[SandboxHost]:
    async with sandbox_host() as made:
        yield made


async def test_a_new_sandbox_has_its_own_root_processes_name_and_address(host: SandboxHost) -> None:
    sandbox = await host.create()
    done = await shell(sandbox, "id -u; hostname; cat /etc/hostname; ls /sys; ls /proc | grep -c '^[0-9]'")
    assert done.output.split()[:3] == ["0", sandbox.spec.id, sandbox.spec.id]
    assert int(done.output.split()[-1]) <= 5
    assert sandbox.address == "10.12.0.3"


async def test_creating_takes_less_than_half_a_second_and_destroying_less_than_one(host: SandboxHost) -> None:
    await host.create()  # the disk of that size is made for the first
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        sandbox = await host.create()
        created = time.perf_counter()
        await host.runtime.destroy(sandbox.spec.id)
        took.append((created - begin, time.perf_counter() - created))
    assert sorted(created for created, _ in took)[2] < 0.5, took
    assert sorted(destroyed for _, destroyed in took)[2] < 1.0, took


async def test_what_a_sandbox_adds_to_the_memory_in_use_is_below_25_mib(host: SandboxHost) -> None:
    sandbox = await host.create()
    usage = await host.runtime.usage(sandbox.spec.id)
    assert 0 < usage.memory_bytes < 25 * 2**20
    assert usage.pids == 1
    assert usage.cpu_seconds > 0
    assert 0 < usage.disk_bytes < 8 * 2**20


async def test_programs_of_the_machine_are_there_and_changing_them_changes_nothing_outside(
    host: SandboxHost,
) -> None:
    sandbox, other = await host.create(), await host.create()
    done = await shell(
        sandbox, "echo changed > /usr/bin/env && cat /usr/bin/env && touch /usr/lib/new && rm /usr/bin/ls"
    )
    assert (done.code, done.output) == (0, "changed\n"), done
    assert (await run_in(other, "/usr/bin/env", "ls", "/")).code == 0
    assert not _is_there("/usr/lib/new")


async def test_users_of_a_sandbox_have_numbers_that_nobody_else_has(host: SandboxHost) -> None:
    first, second = await host.create(), await host.create()
    owners = set()
    for sandbox in (first, second):
        done = await shell(
            sandbox, "touch /root/mine && stat -c %u /root/mine /usr /; cat /proc/self/uid_map"
        )
        words = done.output.split()
        assert words[:4] == ["0", "0", "0", "0"]
        assert int(words[4]) >= 1 << 24 and words[5] == "65536"
        owners.add(words[4])
    assert len(owners) == 2


async def test_a_paused_sandbox_stands_still_and_goes_on_with_its_connections(host: SandboxHost) -> None:
    sandbox = await host.create()
    reader, writer = await asyncio.open_unix_connection(sandbox.guest_socket)
    await host.runtime.pause(sandbox.spec.id)
    before = (await host.runtime.usage(sandbox.spec.id)).cpu_seconds
    held = asyncio.create_task(shell(sandbox, "echo awake"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(held), 0.2)
    assert (await host.runtime.usage(sandbox.spec.id)).cpu_seconds == before
    assert await host.runtime.is_alive(sandbox.spec.id)
    await host.runtime.resume(sandbox.spec.id)
    assert (await held).output == "awake\n"
    assert not reader.at_eof()
    writer.transport.abort()


async def test_a_paused_sandbox_is_destroyed_like_any_other(host: SandboxHost) -> None:
    sandbox = await host.create()
    await host.runtime.pause(sandbox.spec.id)
    begin = time.perf_counter()
    await host.runtime.destroy(sandbox.spec.id)
    assert time.perf_counter() - begin < 2
    assert not await host.runtime.is_alive(sandbox.spec.id)
    await host.runtime.destroy(sandbox.spec.id)  # no error


async def test_a_host_that_comes_back_finds_its_sandboxes_as_they_were(host: SandboxHost) -> None:
    running, paused, died = [await host.create() for _ in range(3)]
    assert (await shell(running, "echo kept > /root/file")).code == 0
    await host.runtime.pause(paused.spec.id)
    kept = host.kept.get(died.spec.id)
    os.kill(kept.pid, signal.SIGKILL)
    found = {each.spec.id: each for each in await host.restart()}
    assert found.keys() == {running.spec.id, paused.spec.id}
    assert not found[running.spec.id].paused and found[paused.spec.id].paused
    again = found[running.spec.id]
    assert (again.address, again.slot, again.guest_socket) == (
        running.address,
        running.slot,
        running.guest_socket,
    )
    assert (await shell(found[running.spec.id], "cat /root/file")).output == "kept\n"
    assert not _is_there(host.kept.path(died.spec.id))
    await host.runtime.resume(paused.spec.id)
    assert (await shell(paused, "echo awake")).output == "awake\n"
    assert (await host.create()).slot not in (running.slot, paused.slot)


async def test_sandboxes_outlive_the_process_they_were_forked_from(host: SandboxHost) -> None:
    sandbox = await host.create()
    await host.runtime.close()
    assert await host.runtime.is_alive(sandbox.spec.id)
    assert (await shell(sandbox, "echo here")).output == "here\n"
    assert (await shell(await host.create(), "echo there")).output == "there\n"


async def test_what_a_crashed_host_left_half_made_is_freed(host: SandboxHost) -> None:
    sandbox = await host.create()
    kept = host.kept.get(sandbox.spec.id)
    # As it was written before anything was made: the rest is there nevertheless.
    host.kept.write(dataclasses.replace(kept, pid=0, born=""))
    assert await host.restart() == []
    assert processes.born(kept.pid) is None


async def test_a_sandbox_that_cannot_be_made_leaves_nothing_and_says_why(
    host: SandboxHost, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "dev").symlink_to("/etc")
    with pytest.raises(HostError, match="in the place of a directory.*dev"):
        await host.create(with_layers(host.template, broken, *host.template.layers))
    with pytest.raises(HostError, match="nowhere"):
        await host.create(with_layers(host.template, tmp_path / "nowhere"))


async def test_a_link_in_a_template_does_not_lead_the_host_out_of_the_root(
    host: SandboxHost, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    layer = tmp_path / "layer"
    (layer / "etc").mkdir(parents=True)
    (layer / "etc" / "resolv.conf").symlink_to(victim)
    sandbox = await host.create(with_layers(host.template, layer, *host.template.layers))
    assert (await shell(sandbox, "test -L /etc/resolv.conf")).code == 1
    assert victim.read_text() == "untouched"


async def test_twenty_sandboxes_at_once_have_twenty_addresses(host: SandboxHost) -> None:
    sandboxes = await asyncio.gather(*(host.create() for _ in range(20)))
    assert len({each.address for each in sandboxes}) == 20
    answers = await asyncio.gather(*(shell(each, "hostname") for each in sandboxes))
    assert [each.output.strip() for each in answers] == [each.spec.id for each in sandboxes]


async def test_two_hosts_of_one_machine_do_not_take_each_others_links(host: SandboxHost) -> None:
    other = host.beside()
    await other.runtime.start()
    try:
        made = await asyncio.gather(*(each.create() for each in (host, other) * 4))
        assert len({each.address for each in made}) == 8
        assert [(await shell(each, "hostname")).output.strip() for each in made] == [
            each.spec.id for each in made
        ]
    finally:
        for sandbox in other.ids:
            await other.runtime.destroy(sandbox)
        await other.runtime.close()


async def test_a_snapshot_is_a_template_with_what_was_changed(host: SandboxHost, tmp_path: Path) -> None:
    sandbox = await host.create()
    script = (
        "echo new > /root/new; chown 1000:1000 /root/new; rm /etc/group; rm -r /home/ann; mkdir /home/ann;"
        "echo mine > /usr/bin/mine; rm /usr/bin/env; rm -rf /usr/share/doc; mkdir /usr/share/doc"
    )
    assert (await shell(sandbox, script)).code == 0
    layer = host.state / "snapshot"
    await host.runtime.snapshot(sandbox.spec.id, layer)
    assert (await shell(sandbox, "echo on")).output == "on\n"
    copy = await host.create(with_layers(host.template, layer))
    done = await shell(
        copy,
        "cat /root/new; stat -c %u /root/new; ls /home/ann /usr/share/doc; cat /usr/bin/mine;"
        "ls -d /etc/passwd /etc/group /usr/bin/env",
    )
    assert done.output.split() == ["new", "1000", "/home/ann:", "/usr/share/doc:", "mine", "/etc/passwd"]


async def test_a_first_process_that_died_is_seen(host: SandboxHost) -> None:
    sandbox = await host.create()
    pid = host.kept.get(sandbox.spec.id).pid
    process = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(select.select, [process], [], [], 5)
    os.close(process)
    assert not await host.runtime.is_alive(sandbox.spec.id)


async def test_a_first_process_holds_nothing_of_the_hosts_open(host: SandboxHost) -> None:
    sandbox = await host.create()
    place = f"/proc/{host.kept.get(sandbox.spec.id).pid}/fd"
    kinds = {os.readlink(f"{place}/{each}").partition(":")[0] for each in os.listdir(place)}
    others = kinds - {"/dev/null", "socket", "pipe", "anon_inode"}
    assert all(each.endswith(f"/wellhead/{sandbox.spec.id}/guest") for each in others), others
    done = await shell(sandbox, "ls /proc/self/fd")
    assert done.output.split() == ["0", "1", "2", "3"]


async def test_sudo_is_possible_where_the_template_allows_new_privileges(host: SandboxHost) -> None:
    template = Template(
        name="sudo", layers=host.template.layers, shared=host.template.shared, user="ann", home="/home/ann",
        no_new_privs=False,
    )  # fmt: skip
    script = "cp /bin/sh /usr/local/bin/up && chmod 4755 /usr/local/bin/up"
    sandbox = await host.create(template)
    assert (await shell(sandbox, script, user="root")).code == 0
    assert (await run_in(sandbox, "/usr/local/bin/up", "-p", "-c", "id -un -u")).output.split() == ["root"]
    strict = await host.create()
    assert (await shell(strict, script)).code == 0
    assert (await run_in(strict, "/usr/local/bin/up", "-p", "-c", "id -un", user="ann")).output.split() == [
        "ann"
    ]


async def test_where_users_keep_the_machines_numbers_root_has_none_of_its_powers() -> None:
    async with sandbox_host(RuntimeTerms(first_id=0)) as host:
        sandbox = await host.create()
        done = await shell(
            sandbox,
            "touch /root/x && stat -c %u /root/x; cat /proc/self/uid_map; echo 1 > /proc/sys/vm/swappiness",
        )
        assert done.output.split() == ["0", "0", "0", "65536"]
        assert "Read-only" in done.errors
        assert (await shell(sandbox, "mount -t tmpfs x /tmp || mount -o remount,rw /proc/sys")).code != 0
        assert (await shell(sandbox, "ls /proc/1/root/")).code != 0


async def test_a_creation_that_is_called_off_leaves_nothing(host: SandboxHost) -> None:
    for seconds in (0.001, 0.01, 0.02, 0.03, 0.04):
        creating = asyncio.ensure_future(host.create())
        await asyncio.wait([creating], timeout=seconds)
        if creating.cancel():
            with pytest.raises(asyncio.CancelledError):
                await creating
            assert host.kept.ids() == []
        else:
            await host.runtime.destroy((await creating).spec.id)
    assert (await host.create()).slot == 1


async def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="needs root, and this is user 1000"):
        await NamespaceRuntime(tmp_path).start()


def _is_there(path: str | Path) -> bool:
    return os.path.lexists(path)
