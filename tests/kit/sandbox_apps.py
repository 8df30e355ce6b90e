"""Applications that people run in sandboxes, brought there from this machine, for sandboxes have no internet.

Their sources are in ``tests/kit/apps``. Packages of Node.js are installed on the machine, once, and copied;
those of Python go into a template.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from tests.kit.hosted import START_SECONDS
from tests.kit.programs import Edge, eventually
from tests.kit.published import cached, checked
from wellhead.client.client import Client
from wellhead.client.sandboxes import Sandbox
from wellhead.host.runtime.kept import KeptSandboxes
from wellhead.host.template_build import Recipe, build
from wellhead.host.templates import Templates
from wellhead.model.sandboxes import read_sandbox_id

SOURCES = Path(__file__).parent / "apps"
TOKEN = "a-token-of-this-test"
DOMAINS = ("localhost", "sandboxes.test")
LOCALLY = "--host-resolver-rules=MAP *.sandboxes.test 127.0.0.1"  # a flag of Chromium's
NODE_LEAST = (20, 19)
LISTENS_SECONDS = 60.0
_PIECE = 1024 * 1024


def _node_version() -> tuple[int, ...]:
    if shutil.which("node") is None:
        return NODE_LEAST  # `needs` says that it is missing
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, said.strip().removeprefix("v").split(".")))


NEEDED_BY_NODE = [
    pytest.mark.needs("node", "npm"),
    pytest.mark.skipif(_node_version() < NODE_LEAST, reason="the dev servers need a newer Node.js"),
]


@dataclass(frozen=True)
class App:
    """``prepare`` and ``command`` are lines for ``sh``, in the directory ``app``.

    ``pip``: what its template has of Python's packages; ``node``: whether it needs some of Node.js's.
    """

    name: str
    port: int
    command: str
    prepare: str = ""
    pip: tuple[str, ...] = ()
    node: bool = False
    memory_mb: int = 1024

    @property
    def template(self) -> str:
        return self.name if self.pip else "minimal-ubuntu"


STATIC = App(
    "static", 8000, "python3 -m http.server 8000", memory_mb=256,
    prepare="mkdir 'a b'; echo odd > 'a b/ü#1?.txt';"
    " head -c 8000000 /dev/urandom > big.bin; : > favicon.ico",
)  # fmt: skip
VITE = App("vite", 5173, "node_modules/.bin/vite", node=True)
NEXT = App("next", 3000, "node_modules/.bin/next dev", node=True, memory_mb=2048)
STREAMLIT = App(
    "streamlit",
    8501,
    "streamlit run page.py --server.headless true --browser.gatherUsageStats false",
    pip=("streamlit==1.67.0",),
)
LAB = App(
    "lab", 8888, f"jupyter lab --no-browser --IdentityProvider.token={TOKEN}",
    pip=("jupyterlab==4.6.6", "ipykernel==7.4.0"),
)  # fmt: skip
APPS = (STATIC, VITE, NEXT, STREAMLIT, LAB)


class AppServer:
    """A server of sandboxes with an application in each, at one domain after another: the sandboxes stay."""

    def __init__(self, home: Path, apps: Sequence[App]) -> None:
        """``apps``: those that there will be; their templates are built now."""
        self.home = home
        self._state = home / "server" / "host"
        for app in apps:
            if app.pip:
                build(Templates(self._state), Recipe("python", app.pip), app.name)
        self.domain = ""
        self._edge: Edge | None = None
        self._sandboxes: dict[str, str] = {}  # by the application's name

    @property
    def edge(self) -> Edge:
        assert self._edge is not None
        return self._edge

    def at(self, domain: str) -> Self:
        """Serve the names of a domain; whatever runs in sandboxes goes on."""
        if self.domain != domain:
            self._stop()
            settings = {
                "domain": domain, "host_runtime": "namespace", "host_egress": "none",
                "host_keep_sandboxes": True, "drain_seconds": 1,
            }  # fmt: skip
            self._edge = Edge(self.home, "--with-host", settings=settings, wait=False)
            self._edge.ready(START_SECONDS)
            self.domain = domain
        return self

    def first_process(self, app: App) -> int:
        """The pid, on this machine, of the first process of the application's sandbox."""
        kept = KeptSandboxes(self._state).read(read_sandbox_id(self._sandboxes[app.name]))
        assert kept is not None
        return kept.pid

    @contextlib.contextmanager
    def running(self, app: App) -> Iterator[Sandbox]:
        """The sandbox in which an application runs, which is started where it is not yet."""
        with self._client() as client:
            if app.name not in self._sandboxes:
                self._start(client, app)
            yield client.sandboxes.get(self._sandboxes[app.name])

    def close(self) -> None:
        if self._edge is not None:
            with self._client() as client:
                for sandbox in self._sandboxes.values():
                    client.sandboxes.get(sandbox).destroy()
        self._stop()

    def _client(self) -> Client:
        # By the address: no resolver knows the domain.
        return Client(f"https://127.0.0.1:{self.edge.https}", self.edge.key, ca_file=self.edge.ca)

    def _start(self, client: Client, app: App) -> None:
        sandbox = client.sandboxes.create(app.template, vcpus=2, memory_mb=app.memory_mb)
        self._sandboxes[app.name] = sandbox.id
        copy(SOURCES / app.name, sandbox, "app")
        if app.node:
            copy(node_modules(app.name), sandbox, "app/node_modules")
        if app.prepare:
            sandbox.exec(app.prepare, cwd="app").check()
        sandbox.start(f"exec {app.command}", cwd="app", tag="app", env={"NEXT_TELEMETRY_DISABLED": "1"})
        eventually(lambda: any(each.port == app.port for each in sandbox.ports()), LISTENS_SECONDS)

    def _stop(self) -> None:
        if self._edge is not None:
            self._edge.stop()
            self._edge.kill()
            self._edge = None


def copy(source: Path, sandbox: Sandbox, target: str) -> None:
    """Bring a directory into a sandbox, all in one."""
    with (
        subprocess.Popen(["tar", "-cC", str(source), "."], stdout=subprocess.PIPE) as packing,
        sandbox.exec_stream(f"mkdir -p {target} && exec tar -xC {target}", stdin=True) as unpacking,
    ):
        assert packing.stdout is not None
        while piece := packing.stdout.read(_PIECE):
            unpacking.send(piece)
        unpacking.close_stdin()
        unpacking.result().check()


def node_modules(app: str) -> Path:
    """The packages of an application as its lock file says, installed once."""
    pins = [SOURCES / app / name for name in ("package.json", "package-lock.json")]
    with cached(f"node-{app}", *pins) as (directory, fresh):
        if fresh:
            for pin in pins:
                shutil.copy(pin, directory)
            quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts"]
            # Not `ci`, which wants the packages of every other kind of machine to be in the registry too.
            checked(["npm", "install", *quiet, "--prefix", str(directory)])
        return directory / "node_modules"
