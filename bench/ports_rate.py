"""Requests of ports: their rate beside nginx in two hops to the same application, and many sandboxes in turn.

The application is nginx in a sandbox. Its rivals dial it in the sandbox's network, at its address.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.ground import Ground, program
from bench.load import BODY, Door, Rush, answers, rush
from bench.plan import Figures, Options, Sample
from bench.ports_stage import Stage, until
from bench.processes import Unavailable, cpu_seconds, free_port, wait_for_port
from bench.targets import proxy
from wellhead.client.sandboxes import Sandbox
from wellhead.model.sandboxes import SandboxId

PORT = 7100
CROWD = 200
AT_ONCE = 4
CONNECTIONS = 64
TARGETS = ("wellhead", "wellhead-tls", "nginx-2hop")
_CONF = """daemon off; pid /tmp/nginx.pid; error_log /tmp/nginx.log; worker_processes 1; user root;
events { worker_connections 4096; }
http {
  access_log off; keepalive_timeout 600; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u;
  scgi_temp_path /tmp/s;
  server { listen 0.0.0.0:%d; location / { default_type text/plain; return 200 "%s"; } }
}
"""


def rates(
    ground: Ground, group: str, stage: Stage, options: Options, say: Callable[[str], None]
) -> Iterator[Sample]:
    """Requests/s through the port's name and through the chain, by turns in every round."""
    cell = f"requests c={CONNECTIONS}"
    with answering(stage, BODY.decode()) as sandbox:
        name = stage.authority(PORT, sandbox.id).partition(":")[0]
        doors = {
            "wellhead": Door(stage.edge.http, hostname=name),
            "wellhead-tls": Door(stage.edge.https, tls=True, hostname=name),
            "nginx-2hop": _chain(ground, stage.address(SandboxId(sandbox.id))),
        }
        for door in doors.values():
            until(lambda door=door: answers(door))  # type: ignore[misc]
            rush(door, 16, 1)
        for number in range(options.rounds):
            say(f"round {number + 1}/{options.rounds}  {group} {cell}")
            for place in range(len(TARGETS)):
                target = TARGETS[(place + number) % len(TARGETS)]
                try:
                    figures = _rush(stage, doors[target], options.seconds)
                    yield Sample(target, group, cell, number, figures)
                except (Unavailable, OSError) as error:
                    yield Sample(target, group, cell, number, error=str(error) or repr(error))


def _rush(stage: Stage, door: Door, seconds: int) -> Figures:
    pids = stage.edge.process.pids(), stage.host.pids()
    before = [cpu_seconds(each) for each in pids]
    done: Rush = rush(door, CONNECTIONS, seconds)
    edge, host = (cpu_seconds(each) - earlier for each, earlier in zip(pids, before, strict=True))
    return {
        "rate": done.rate, "p50": done.p50, "p99": done.p99, "failed": done.failed, "refused": done.refused,
        "edge_cpu": edge * 1e6 / done.requests, "agent_cpu": host * 1e6 / done.requests,
    }  # fmt: skip


def crowd(stages: Sequence[Stage]) -> Figures:
    """A request to each of many sandboxes in turn, on a connection and at a name of its own.

    They are spread over the hosts of ``stages``: one of two CPUs has room for 128.

    Raises:
        Unavailable: an answer is not that sandbox's own.
    """
    took: list[float] = []
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        places = [stages[number % len(stages)] for number in range(CROWD)]
        sandboxes = list(pool.map(lambda stage: stack.enter_context(answering(stage, "")), places))
        for stage, sandbox in zip(places, sandboxes, strict=True):
            name = stage.authority(PORT, sandbox.id).partition(":")[0]
            door = Door(stage.edge.https, tls=True, hostname=name)
            until(lambda door=door: _asked(door).startswith(b"HTTP/1.1 200"))  # type: ignore[misc]
            began = time.perf_counter()
            reply = _asked(door)
            took.append(time.perf_counter() - began)
            if not (reply.startswith(b"HTTP/1.1 200") and reply.endswith(sandbox.id.encode())):
                raise Unavailable(f"{sandbox.id} answered {reply[:200]!r}")
    ordered = sorted(took)
    return {
        "count": len(ordered), "p50": ordered[len(ordered) // 2] * 1e3,
        "p99": ordered[int(len(ordered) * 0.99)] * 1e3,
    }  # fmt: skip


@contextlib.contextmanager
def answering(stage: Stage, body: str) -> Iterator[Sandbox]:
    """A sandbox whose nginx answers ``body``, or its own id where that is empty."""
    made = stage.client.sandboxes.create(template="minimal", vcpus=1, memory_mb=128, disk_mb=64)
    with made as sandbox:
        sandbox.files.write("/tmp/nginx.conf", (_CONF % (PORT, body or sandbox.id)).encode())
        sandbox.processes.start([program("nginx"), "-c", "/tmp/nginx.conf"])
        yield sandbox


def _asked(door: Door) -> bytes:
    with door.connect(10) as connection:
        connection.sendall(door.get("/hello"))
        reply = b""
        while piece := connection.recv(65536):
            reply += piece
    return reply


def _chain(ground: Ground, address: str) -> Door:
    """Two reverse proxies on this machine in a row, the second of which dials the sandbox."""
    far_port, near_port = free_port(), free_port()
    far = ground.nginx("ports-far", proxy(far_port, "", "", "http", PORT, address))
    wait_for_port(far_port, far)
    near = ground.nginx("ports-near", proxy(near_port, "", "", "http", far_port))
    wait_for_port(near_port, near)
    return Door(near_port)
