"""A server with a host and sandboxes in whose networks a test listens, behind the names of their ports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.kit.fronts import Front
from tests.kit.hosted import hosted
from tests.kit.hosts import SandboxApi
from tests.kit.programs import Edge
from wellhead.host.runtime.kept import Kept, KeptSandboxes
from wellhead.model.sandboxes import SandboxId
from wellhead.serve_host_process import LOCAL_HOST

PORT = 3000


@dataclass(frozen=True)
class Harbour:
    """``sandbox``: one that runs. Everybody may see the ports, as is usual with ``--with-host``."""

    edge: Edge
    api: SandboxApi
    sandbox: str

    def kept(self, sandbox: str = "") -> Kept:
        """What the host wrote down of a sandbox: its first process, its address."""
        state = self.edge.data / LOCAL_HOST
        return KeptSandboxes(state).get(SandboxId(sandbox or self.sandbox))

    def hostname(self, port: int = PORT, sandbox: str = "") -> str:
        return f"{port}-{sandbox or self.sandbox}.localhost"

    def front(self, port: int = PORT, sandbox: str = "") -> Front:
        """A port of a sandbox; what is put behind it listens in the sandbox's network."""
        namespace = f"/proc/{self.kept(sandbox).pid}/ns/net"
        return Front(self.edge, self.hostname(port, sandbox), port, namespace)


@contextlib.contextmanager
def harbouring(home: Path, *flags: str, settings: Mapping[str, object] | None = None) -> Iterator[Harbour]:
    """A server with a host and one sandbox; as root only."""
    with hosted(home, *flags, settings=settings) as edge, SandboxApi(edge) as api:
        yield Harbour(edge, api, api.create())
