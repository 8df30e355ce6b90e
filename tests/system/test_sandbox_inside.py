"""What a sandbox's root tries from inside: to leave, to look out, to use everything up."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator

import pytest

from tests.kit.sandbox_host import SandboxHost, needs_namespaces, sandbox_host
from tests.kit.sandbox_root import run_in, shell
from wellhead.host.runtime.hello import hello
from wellhead.host.runtime.runtime import Running

pytestmark = [needs_namespaces, pytest.mark.timeout(180)]

_CALLS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
held = ctypes.create_string_buffer(64)
room = (ctypes.c_ulong * 2)(ctypes.addressof(held), 16)
for name, call in {
    "mount": lambda: libc.mount(b"x", b"/mnt", b"tmpfs", 0, None),
    "unshare user": lambda: libc.unshare(0x10000000),
    "unshare mount": lambda: libc.unshare(0x20000),
    "clone user": lambda: libc.syscall(56 if os.uname().machine == "x86_64" else 220, 0x10000011, 0, 0, 0, 0),
    "ptrace first": lambda: libc.ptrace(16, 1, 0, 0),
    "read first": lambda: libc.process_vm_readv(1, room, 1, room, 1, 0),
    "mknod": lambda: libc.mknod(b"/root/disk", 0o060600, os.makedev(254, 0)),
    "reboot": lambda: libc.reboot(0x1234567),
    "open by handle": lambda: libc.open_by_handle_at(-100, b"\\0" * 64, 0),
    "chroot out": lambda: libc.pivot_root(b"/", b"/") if hasattr(libc, "pivot_root") else -1,
    "hostname": lambda: libc.sethostname(b"x", 1),
    "clock": lambda: libc.settimeofday(ctypes.create_string_buffer(16), None),
    "raw socket": lambda: libc.socket(2, 3, 1),
    "packet socket": lambda: libc.socket(17, 3, 0),
    "machine's socket": lambda: libc.socket(40, 1, 0),
    "kernel log": lambda: libc.klogctl(3, ctypes.create_string_buffer(64), 64),
    "keys": lambda: libc.syscall(250 if os.uname().machine == "x86_64" else 219, 0, -3, 0),
    "nice": lambda: libc.setpriority(0, 0, -10),
    "oom": lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-500"),
}.items():
    try:
        done = call()
    except OSError:
        done = -1
    if done == 0 and "clone" in name:
        os._exit(0)
    print(name, "refused" if done < 0 else "DONE")
"""

_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


@pytest.fixture
async def host() -> AsyncIterator[SandboxHost]:
    async with sandbox_host() as made:
        yield made


async def _answers(sandbox: Running) -> None:
    assert (await shell(sandbox, "echo here")).output == "here\n"


def _python() -> str:
    """A Python that sandboxes have too: the machine's, below /usr."""
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


async def test_what_would_lead_out_of_a_sandbox_is_refused(host: SandboxHost) -> None:
    sandbox = await host.create()
    done = await run_in(sandbox, _python(), "-c", _CALLS)
    assert done.code == 0, done
    outcomes = dict(line.rsplit(" ", 1) for line in done.output.splitlines())
    assert len(outcomes) >= 19
    assert {name for name, outcome in outcomes.items() if outcome != "refused"} == set()


async def test_the_first_process_cannot_be_looked_into(host: SandboxHost) -> None:
    sandbox = await host.create()
    looks = (
        "ls /proc/1/root", "ls /proc/1/fd", "ls /proc/1/map_files", "cat /proc/1/environ", "cat /proc/1/mem",
        "readlink /proc/1/exe", "readlink /proc/1/cwd", "readlink /proc/1/ns/mnt", "cat /proc/1/maps",
    )  # fmt: skip
    for look in looks:
        done = await shell(sandbox, look)
        assert done.code != 0 or not done.output, (look, done)
    shown = await shell(sandbox, "cat /proc/1/cmdline /proc/1/comm | tr '\\0' ' '")
    assert shown.output.split() == ["wellhead-guest", sandbox.spec.id, "wellhead-guest"]


async def test_the_first_process_cannot_be_left_without_descriptors(host: SandboxHost) -> None:
    sandbox = await host.create()
    limit = "import resource; resource.prlimit({}, resource.RLIMIT_NOFILE, (64, 64))"
    done = await run_in(sandbox, _python(), "-c", limit.format(0))
    assert done.code == 0, done
    done = await run_in(sandbox, _python(), "-c", limit.format(1))
    assert "PermissionError" in done.errors, done
    await _answers(sandbox)


async def test_neither_the_machine_nor_other_sandboxes_can_be_seen(host: SandboxHost) -> None:
    sandbox, sibling = await host.create(), await host.create()
    assert (
        await shell(sibling, "sleep 7777 & echo secret > /tmp/of-sibling; echo secret > /dev/shm/x")
    ).code == 0
    seen = await shell(
        sandbox, "ls -a / /tmp /dev/shm /home /root /mnt /srv /sys; ps -ef; mount; cat /proc/*/cgroup"
    )
    for hidden in ("7777", "of-sibling", str(host.state), sibling.spec.id, "guest.sock", "pytest"):
        assert hidden not in seen.output, (hidden, seen.output)
    sockets = await shell(sandbox, "cat /proc/net/unix; find / -xdev -type s")
    assert "guest.sock" not in sockets.output
    ipc = await shell(sandbox, "cat /proc/sysvipc/* /proc/net/dev; ls /proc/sys/fs/mqueue 2>&1")
    assert "wh1h" not in ipc.output and "eth0" in ipc.output


async def test_what_proc_says_of_the_machine_can_be_neither_read_nor_written(host: SandboxHost) -> None:
    sandbox = await host.create()
    done = await shell(
        sandbox, "cat /proc/keys /proc/kallsyms /proc/timer_list /proc/kmsg /proc/kcore 2>/dev/null"
    )
    assert done.output == ""
    for write in (
        "echo 1 > /proc/sys/net/ipv4/ip_forward", "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger", "echo /x > /proc/sys/kernel/modprobe",
        "echo 1 > /proc/1/oom_score_adj",
    ):  # fmt: skip
        assert (await shell(sandbox, write)).code != 0, write


async def test_a_fork_bomb_stays_within_its_sandbox(host: SandboxHost) -> None:
    host.need_limit("pids")
    sandbox, sibling = await host.create(pids_max=64), await host.create()
    bomb = asyncio.create_task(run_in(sandbox, _python(), "-c", _BOMB, seconds=60))
    async with asyncio.timeout(30):
        while (await host.runtime.usage(sandbox.spec.id)).pids < 60:
            await _answers(sibling)
    assert (await host.runtime.usage(sandbox.spec.id)).pids <= 64
    await _answers(sibling)
    assert await host.runtime.is_alive(sandbox.spec.id)
    await host.runtime.destroy(sandbox.spec.id)
    bomb.cancel()
    await asyncio.gather(bomb, return_exceptions=True)
    await _answers(sibling)


async def test_a_full_disk_is_full_for_that_sandbox_alone(host: SandboxHost) -> None:
    host.need_limit("disk")
    sandbox, sibling = await host.create(disk_mb=32), await host.create()
    for place in ("/root/x", "/usr/x", "/tmp/x"):
        done = await shell(sandbox, f"dd if=/dev/zero of={place} bs=1M count=64; rm {place}")
        assert "No space left" in done.errors, (place, done)
    done = await shell(sandbox, "dd if=/dev/zero of=/dev/shm/x bs=1M count=300 2>&1; rm -f /dev/shm/x")
    assert "No space left" in done.output or "Killed" in done.output
    await _answers(sandbox)
    await _answers(sibling)


async def test_memory_ends_for_a_program_and_not_for_its_sandbox(host: SandboxHost) -> None:
    host.need_limit("memory")
    sandbox = await host.create(memory_mb=64)
    done = await run_in(sandbox, _python(), "-c", "x = bytearray(300 << 20); print('got it')")
    assert "got it" not in done.output
    await _answers(sandbox)


async def test_memory_ends_for_a_crowd_of_small_programs_and_not_for_their_sandbox(host: SandboxHost) -> None:
    host.need_limit("memory")
    sandbox = await host.create(memory_mb=64, pids_max=600)
    crowd = "dd if=/dev/zero of=/dev/shm/x bs=1M count=31; for i in $(seq 500); do sleep 60 & done"
    await shell(sandbox, crowd)
    await hello(sandbox.guest_socket, 30)
    assert await host.runtime.is_alive(sandbox.spec.id)


async def test_descriptors_used_up_by_a_program_are_its_own(host: SandboxHost) -> None:
    sandbox, sibling = await host.create(), await host.create()
    script = "import os, time\ntry:\n  while True: os.dup(0)\nexcept OSError as e: print(e.strerror)\n"
    done = await run_in(sandbox, _python(), "-c", script)
    assert "Too many open files" in done.output
    await _answers(sandbox)
    await _answers(sibling)


async def test_killing_everything_kills_all_but_the_guest(host: SandboxHost) -> None:
    sandbox, sibling = await host.create(), await host.create()
    assert (await shell(sibling, "sleep 1000 &")).code == 0
    await shell(sandbox, "sleep 1000 & kill -9 -1; kill -9 1; kill -TERM 1; kill -INT 1")
    await _answers(sandbox)
    assert (await host.runtime.usage(sandbox.spec.id)).pids == 1
    assert "sleep" in (await shell(sibling, "ps -ef")).output


async def test_its_share_of_the_processors_is_all_that_a_sandbox_gets(host: SandboxHost) -> None:
    host.need_limit("cpu")
    sandbox = await host.create(vcpus=0.2)
    loop = asyncio.get_running_loop()
    begin, before = loop.time(), (await host.runtime.usage(sandbox.spec.id)).cpu_seconds
    await shell(sandbox, "timeout 1 sh -c 'while :; do :; done'")
    used = (await host.runtime.usage(sandbox.spec.id)).cpu_seconds - before
    assert used < 0.2 * (loop.time() - begin) + 0.15


async def test_every_program_runs_with_as_few_powers_whatever_its_user(host: SandboxHost) -> None:
    sandbox = await host.create()
    done = await shell(sandbox, "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status")
    facts = dict(line.split(":") for line in done.output.splitlines())
    assert int(facts["CapBnd"], 16) == int(facts["CapEff"], 16) == 0xA00405FB
    assert facts["NoNewPrivs"].strip() == "1" and facts["Seccomp"].strip() == "2"
    done = await shell(sandbox, "grep CapEff /proc/self/status", user="ann")
    assert int(done.output.split()[1], 16) == 0


async def test_terminals_of_a_sandbox_are_its_own(host: SandboxHost) -> None:
    sandbox = await host.create()
    script = (
        "import os, pty; a, b = pty.openpty(); name = os.ttyname(b);"
        "print(name, os.stat(name).st_gid, *sorted(os.listdir('/dev/pts')))"
    )
    done = await run_in(sandbox, _python(), "-c", script)
    assert done.output.split() == ["/dev/pts/0", "5", "0", "ptmx"], done


async def test_terminals_end_for_a_sandbox_and_not_for_the_machine(host: SandboxHost) -> None:
    sandbox, other = await host.create(), await host.create()
    greedy = (
        "import os, time\n"
        "held = []\n"
        "try:\n"
        "    while len(held) < 500: held.append(os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY))\n"
        "except OSError as error: print(error.errno)\n"
        "print(len(held))"
    )
    done = await run_in(sandbox, _python(), "-c", greedy)
    assert done.output.split() == [str(errno.ENOSPC), "128"], done
    done = await run_in(other, _python(), "-c", "import pty; pty.openpty()")
    assert done.code == 0, done
