"""Public names with whatever a test puts behind them: of a tunnel, or of a port of a sandbox."""

from __future__ import annotations

import contextlib
import socket
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import psutil

from tests.kit.programs import Edge, Program
from tests.kit.upstreams import Handler, Server, serving
from wellhead.host.runtime.network import entered

PLAIN, TLS = "plain", "tls"


@dataclass(frozen=True)
class Front:
    """A name at a running server. ``port``: where its upstream is to listen, on loopback, in ``namespace``.

    ``namespace``: path of a network namespace, "" for the test's own.
    """

    edge: Edge
    hostname: str
    port: int
    namespace: str = ""

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those that no test may end."""
        return (self.edge,)

    @property
    def processes(self) -> list[psutil.Process]:
        """The same, with those that they are made of: the control plane, a host."""
        found = [psutil.Process(program.pid) for program in self.programs]
        return found + [child for each in found for child in each.children()]

    @property
    def url(self) -> str:
        return f"https://{self.host(TLS)}"

    def sni(self, leg: str) -> str | None:
        return self.hostname if leg == TLS else None

    def host(self, leg: str) -> str:
        """The authority that a visitor of that leg would put into ``Host``."""
        return f"{self.hostname}:{self.edge.https if leg == TLS else self.edge.http}"

    def listening(self, address: str = "127.0.0.1") -> socket.socket:
        """A socket that listens behind the name, and whose backlog takes who comes before it is accepted."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with entered(self.namespace) if self.namespace else contextlib.nullcontext():
            return socket.create_server((address, self.port), family=family)

    def serving(self, handler: Handler) -> AbstractAsyncContextManager[Server]:
        """Run ``handler`` for every connection that the name's upstream gets."""
        return serving(handler, sock=self.listening())
