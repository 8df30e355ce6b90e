"""Sandboxes: created, asked for commands, keystrokes and files, and a hundred of them on one host.

Beside ours stands ``ssh`` to this machine, logged in once (a master connection), with the same commands: what
it has no row for, it cannot do. A bare ``subprocess.run`` tells how much of a command is the command's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import statistics
import subprocess
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import product
from bench.ground import Ground
from bench.plan import Figures, Options, Sample
from bench.processes import Unavailable
from bench.targets import ssh_pair
from wellhead import Wellhead

GROUP = "sandbox"
OURS, SSH, BARE = "wellhead-sandbox", "ssh", "subprocess"
CROWD = 100
AT_ONCE = 4
_SETTINGS = (
    'host_runtime = "namespace"\nhost_egress = "none"\nhost_keep_sandboxes = false\nhost_memory_mb = 200000\n'
)
_TRUE = "/bin/true"


@dataclass(frozen=True, slots=True)
class Stage:
    """A server with a host, and who asks it."""

    edge: product.Edge
    client: Wellhead


def measure(ground: Ground, options: Options, say: Callable[[str], None]) -> Iterator[Sample]:
    """Every cell in every round, ours and the others' one behind the other; at last the crowd."""
    if os.geteuid() != 0:
        yield Sample(OURS, GROUP, "server", 0, error="isolated sandboxes need root")
        return
    try:
        say("sandbox: a server with a host")
        stage = _stage(ground)
        control = _ssh(ground)
    except Unavailable as error:
        yield Sample(OURS, GROUP, "server", 0, error=str(error))
        return
    for number in range(options.rounds):
        say(f"round {number + 1}/{options.rounds}  sandbox")
        cells = _cells(stage, control, options)
        for cell, target, measured in cells:
            try:
                yield Sample(target, GROUP, cell, number, measured())
            except Exception as error:  # a cell that fails is told, and the others go on
                yield Sample(target, GROUP, cell, number, error=repr(error)[:300])
    say(f"sandbox: {CROWD} on one host")
    try:
        yield Sample(OURS, GROUP, "crowd", 0, _crowd(stage))
    except Exception as error:
        yield Sample(OURS, GROUP, "crowd", 0, error=repr(error)[:300])


def _cells(
    stage: Stage, ssh: Sequence[str], options: Options
) -> list[tuple[str, str, Callable[[], Figures]]]:
    asks, keys, size = 50 * options.seconds, 100 * options.seconds, options.bulk_bytes
    return [
        ("create", OURS, lambda: _creates(stage, 5 * options.seconds)),
        ("exec", OURS, lambda: _execs(stage, asks)),
        ("exec", SSH, lambda: _spread(_timed(lambda: _run([*ssh, _TRUE]), asks))),
        ("exec", BARE, lambda: _spread(_timed(lambda: _run([_TRUE]), asks))),
        ("echo", OURS, lambda: _echo(stage, keys)),
        ("echo", SSH, lambda: _ssh_echo(ssh, keys)),
        ("files", OURS, lambda: _files(stage, size)),
        ("files", SSH, lambda: _ssh_files(ssh, size)),
    ]


def _stage(ground: Ground) -> Stage:
    edge = product.start_edge(ground, "sandbox", _SETTINGS, flags=["--with-host"], patience_seconds=120)
    client = Wellhead(
        base_url=f"https://localhost:{edge.https}", api_key=edge.key, ca_file=edge.data / "ca.pem"
    )
    ground.stack.callback(client.close)
    return Stage(edge, client)


def _ssh(ground: Ground) -> list[str]:
    """The command that asks over a connection which is there already."""
    _, command = ssh_pair(ground)
    socket = ground.directory / "ssh" / "master"
    program, *rest = (word for word in command if word not in ("-N", "-T"))
    target = rest.pop()
    # Of an option that is given twice the first one counts.
    mine = [f"ControlPath={socket}", "ControlMaster=auto", "ControlPersist=600"]
    asking = [program, *(word for option in mine for word in ("-o", option)), *rest]
    _run([*asking, target, _TRUE])
    ending = [*asking, "-O", "exit", target]
    ground.stack.callback(subprocess.run, ending, capture_output=True, check=False)
    return [*asking, target]


def _creates(stage: Stage, count: int) -> Figures:
    created: list[float] = []
    ended: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        sandbox = stage.client.sandboxes.create(template="minimal")
        ready = time.perf_counter()
        sandbox.destroy()
        created.append(ready - began)
        ended.append(time.perf_counter() - ready)
    return _spread(created) | {"destroy": statistics.median(ended) * 1e3}


def _execs(stage: Stage, count: int) -> Figures:
    with stage.client.sandboxes.create(template="minimal") as sandbox:
        return _spread(_timed(lambda: sandbox.exec([_TRUE]).check(), count))


def _echo(stage: Stage, count: int) -> Figures:
    with (
        stage.client.sandboxes.create(template="minimal") as sandbox,
        sandbox.terminal(["/bin/sh", "-c", "stty raw -echo; echo ready; exec cat"]) as terminal,
    ):
        chunks = iter(terminal)
        seen = b""
        while b"ready" not in seen:
            seen += next(chunks)

        def key() -> None:
            terminal.send(b"x")
            next(chunks)

        return _spread(_timed(key, count))


def _ssh_echo(ssh: Sequence[str], count: int) -> Figures:
    leader, follower = pty.openpty()
    tty.setraw(follower)
    command = [*ssh[:-1], "-tt", ssh[-1], "stty raw -echo; echo ready; exec cat"]
    client = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=subprocess.DEVNULL)
    os.close(follower)
    try:
        seen = b""
        while b"ready" not in seen:
            seen += os.read(leader, 4096)

        def key() -> None:
            os.write(leader, b"x")
            os.read(leader, 4096)

        return _spread(_timed(key, count))
    finally:
        client.kill()
        client.wait()
        os.close(leader)


def _files(stage: Stage, size: int) -> Figures:
    data = os.urandom(1 << 20) * (size >> 20)
    with stage.client.sandboxes.create(template="minimal") as sandbox:
        (up,) = _timed(lambda: sandbox.files.write("/tmp/bulk", data), 1)
        (down,) = _timed(lambda: sandbox.files.read("/tmp/bulk"), 1)
    return {"up": size / up / 1e6, "down": size / down / 1e6}


def _ssh_files(ssh: Sequence[str], size: int) -> Figures:
    data = os.urandom(1 << 20) * (size >> 20)
    path = f"/tmp/wellhead-bench-{os.getpid()}"
    try:
        (up,) = _timed(lambda: _run([*ssh, f"cat > {path}"], data), 1)
        (down,) = _timed(lambda: _run([*ssh, f"cat {path}"]), 1)
    finally:
        Path(path).unlink(missing_ok=True)
    return {"up": size / up / 1e6, "down": size / down / 1e6}


def _crowd(stage: Stage) -> Figures:
    """So many sandboxes at once: how long they take, what they weigh, and how they answer."""
    before = _our_memory(stage)
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        created = list(pool.map(lambda _: stage.client.sandboxes.create(template="minimal"), range(CROWD)))
        took = time.perf_counter() - began
        memory = _our_memory(stage) - before
        answers = [_timed(lambda each=each: each.exec([_TRUE]).check(), 1)[0] for each in created]  # type: ignore[misc]
        ending = time.perf_counter()
        list(pool.map(lambda each: each.destroy(), created))
        ended = time.perf_counter() - ending
    return _spread(answers) | {
        "created": CROWD / took,
        "destroyed": CROWD / ended,
        "mib": memory / CROWD / 2**20,
    }


def _our_memory(stage: Stage) -> int:
    """Bytes of the host, its helpers and what is ours inside of each sandbox: proportional set size."""
    place, total = str(stage.edge.data), 0
    inside = {
        json.loads(file.read_text())["pid"]
        for file in (stage.edge.data / "host" / "sandboxes").glob("*/state.json")
    }
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid in inside or place in " ".join(process.cmdline()):
                total += process.memory_full_info().pss
    return total


def _timed(act: Callable[[], object], count: int) -> list[float]:
    took: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return took


def _spread(seconds: list[float]) -> Figures:
    ordered = sorted(seconds)
    return {"p50": statistics.median(ordered) * 1e3, "p99": ordered[int(len(ordered) * 0.99)] * 1e3}


def _run(command: Sequence[str], data: bytes = b"") -> bytes:
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=120).stdout
