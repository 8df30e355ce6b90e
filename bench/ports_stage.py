"""Where ports of sandboxes are measured: a server and a host, perhaps with a slow link between."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kit import endless_app
from tests.kit.lane_host import Told

from bench import product
from bench.ground import BUILD, Ground
from bench.processes import Child, Unavailable, free_port
from wellhead import Wellhead
from wellhead.client.sandboxes import Sandbox
from wellhead.errors import WellheadError
from wellhead.host.runtime.kept import KeptSandboxes
from wellhead.host.template_build import Recipe, build
from wellhead.host.templates import Templates
from wellhead.model.sandboxes import Lane, SandboxId

STREAMS = (7001, 7002, 7003, 7004)  # ports that send without end
JUPYTER = 8888
HOST = {
    "host_runtime": "namespace", "host_egress": "none", "host_memory_mb": 200_000, "host_max_sandboxes": 400,
}  # fmt: skip
SERVER = 'sandbox_visibility = "public"\n'
START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Shape:
    """``lanes``: the host's sessions. ``link``: of which kind ``tests.kit.slow_link`` is that they pass."""

    name: str
    lanes: tuple[Lane, ...]
    link: str = ""


APART, ONE = tuple(Lane), (Lane.INTERACTIVE,)
SHAPES = (
    Shape("loopback, lanes apart", APART),
    Shape("loopback, one session", ONE),
    Shape("link, lanes apart", APART, "shared"),
    Shape("link, one session", ONE, "shared"),
    Shape("link for each, lanes apart", APART, "each"),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A server with one host."""

    shape: Shape
    edge: product.Edge
    host: Child
    client: Wellhead
    state: Path  # the host's

    @property
    def name(self) -> str:
        """For files."""
        return self.shape.name.replace(", ", "-").replace(" ", "-")

    def told(self, sandbox: str) -> str:
        """What programs that visit a sandbox are told, a line."""
        where = {"url": f"https://localhost:{self.edge.https}", "ca_file": str(self.edge.data / "ca.pem")}
        return json.dumps({**where, "key": self.edge.key, "sandbox": sandbox})

    def authority(self, port: int, sandbox: str) -> str:
        """The public name of a port."""
        return f"{port}-{sandbox}.localhost:{self.edge.https}"

    def address(self, sandbox: SandboxId) -> str:
        """Where a sandbox's own network can be dialled from this machine."""
        kept = KeptSandboxes(self.state).read(sandbox)
        assert kept is not None
        return str(kept.address)


def start(ground: Ground, shape: Shape, *, jupyter: bool) -> Stage:
    """
    Raises:
        Unavailable: something of it does not start.
    """
    name = shape.name.replace(", ", "-").replace(" ", "-")
    edge = product.start_edge(ground, name, SERVER)
    url, ca = f"https://localhost:{edge.https}", edge.data / "ca.pem"
    client = Wellhead(base_url=url, api_key=edge.key, ca_file=ca)
    ground.stack.callback(client.close)
    state = ground.directory / name / "host"
    if jupyter:
        _copy_templates(ground, state)
    dialled = edge.https
    if shape.link:
        dialled = free_port()
        argv = [str(dialled), str(edge.https), f"--{shape.link}"]
        ground.python(f"{name}-link", "-m", "tests.kit.slow_link", *argv).wait_for("^ready", 10)
    told = Told(
        state=state, url=url, ca_file=ca, token=client.hosts.create("bench").token.reveal(),
        edge=f"localhost:{dialled}", lanes=shape.lanes, settings=HOST,
    )  # fmt: skip
    file = ground.directory / name / "host.json"
    file.write_text(told.model_dump_json())
    host = ground.python(f"{name}-host", "-m", "tests.kit.lane_host", str(file), env=edge.env)
    host.wait_for("^online", START_SECONDS)
    return Stage(shape, edge, host, client, state)


@contextlib.contextmanager
def streaming(stage: Stage) -> Iterator[Sandbox]:
    """A sandbox in which something listens on each of ``STREAMS``. No quota of its own holds it up."""
    with stage.client.sandboxes.create(template="minimal", vcpus=8) as sandbox:
        sandbox.files.write("/app.py", Path(endless_app.__file__).read_bytes())
        ports = " ".join(map(str, STREAMS))
        sandbox.processes.start(f"exec python3 /app.py {ports}")
        until(lambda: {each.port for each in sandbox.ports()} >= set(STREAMS))
        yield sandbox


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """
    Raises:
        Unavailable: it does not become so.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise Unavailable(f"not within {seconds:g} s")
        time.sleep(0.02)


def jupyter_state(ground: Ground) -> Path:
    """A host's directory with the template ``jupyter``, built once for all runs."""

    def made(ground: Ground) -> Path:
        state = BUILD / "host"
        try:
            build(Templates(state, "namespace"), Recipe("jupyter"))
        except WellheadError as error:
            raise Unavailable(f"template jupyter: {error}") from error
        return state

    return ground.once("jupyter", made)


def _copy_templates(ground: Ground, state: Path) -> None:
    built = jupyter_state(ground)
    state.mkdir(0o700)
    places = [str(built / name) for name in ("templates", "layers")]
    subprocess.run(["cp", "-a", *places, str(state)], check=True)  # with the owners of files
