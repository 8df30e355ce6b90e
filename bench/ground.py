"""The ground every target stands on: a directory, an upstream, and whatever was started, to be ended."""

from __future__ import annotations

import datetime
import os
import resource
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.load import BODY, Door
from bench.processes import Child, Unavailable, free_port, has_ipv6, wait_for_port

Started = TypeVar("Started")

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"

_APT = {
    "nginx": "nginx-light",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "node": "nodejs",
}
_APT |= {"npm": "npm", "ssh-keygen": "openssh-client"}


def program(name: str) -> str:
    """The path of a program; those of administrators too, which are not on everybody's PATH.

    Raises:
        Unavailable: it is not installed; says which Debian package has it.
    """
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise Unavailable(f"{name} is not installed (apt install {_APT[name]})")
    return found


def raise_file_limit() -> int:
    """The soft limit of open files becomes the hard one, for us and what we start; gives it back."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@dataclass(frozen=True, slots=True)
class Route:
    """One way from a visitor to the upstream: a row of every table."""

    name: str
    visitor: str  # how visitors come in: plain or TLS
    carrier: str  # how the two programs speak: plain, TLS, SSH; a dash where there is only one
    limits: str  # what was raised or switched off against the program's defaults
    door: Door
    edge: tuple[Child, ...] = ()
    agent: tuple[Child, ...] = ()
    groups: tuple[str, ...] = ()  # the tables it has rows in, where it is not all of them

    def edge_pids(self) -> list[int]:
        return [pid for child in self.edge for pid in child.pids()]

    def agent_pids(self) -> list[int]:
        return [pid for child in self.agent for pid in child.pids()]


@dataclass(slots=True)
class Ground:
    """Where programs are started. Everything started is ended when ``stack`` closes, last first."""

    directory: Path
    stack: ExitStack
    bulk_bytes: int
    upstream: int = 0  # port on 127.0.0.1 and ::1
    source: int = 0  # port of the event source
    upstream_processes: tuple[Child, ...] = ()
    _shared: dict[str, object] = field(default_factory=dict)

    def once(self, name: str, start: Callable[[Ground], Started]) -> Started:
        """What ``start`` gave the first time; a failure too is given again."""
        if name not in self._shared:
            try:
                self._shared[name] = start(self)
            except Unavailable as error:
                self._shared[name] = error
        found = self._shared[name]
        if isinstance(found, Unavailable):
            raise found
        return cast(Started, found)

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdin: bool = False,
    ) -> Child:
        child = Child(argv, self.directory / f"{name}.log", env=env, cwd=cwd, stdin=stdin)
        self.stack.callback(child.stop)
        return child

    def python(
        self, name: str, *argv: str, env: Mapping[str, str | None] | None = None, stdin: bool = False
    ) -> Child:
        """A Python program, with our interpreter, from the root of the repository."""
        return self.spawn(name, [sys.executable, *argv], env=env, cwd=ROOT, stdin=stdin)

    def nginx(self, name: str, http: str) -> Child:
        """An nginx of one worker with this ``http`` block."""
        prefix = self.directory / name
        prefix.mkdir()
        config = prefix / "nginx.conf"
        paths = "".join(
            f"  {kind}_temp_path {prefix}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off; pid {prefix}/pid; error_log {prefix}/error.log warn; worker_processes 1;\n"
            "worker_rlimit_nofile 65536; events { worker_connections 16384; }\n"
            f"http {{\n  access_log off; keepalive_timeout 600; keepalive_requests 1000000000;\n"
            f"  sendfile on; tcp_nodelay on; client_max_body_size 0;\n{paths}{http}}}\n"
        )
        # Workers of a root master change their user, which cannot read below a private directory.
        user = "user root; " if os.geteuid() == 0 else ""
        return self.spawn(name, [program("nginx"), "-p", str(prefix), "-c", str(config), "-g", user])

    def certificate(self) -> tuple[Path, Path]:
        """A self-signed certificate and its key, P-256, made once; for peers that need one."""
        return self.once("certificate", lambda ground: _make_certificate(ground.directory))


def listen_on(port: int, extra: str = "") -> str:
    """The ``listen`` lines of an nginx server on both loopback addresses."""
    lines = f"listen 127.0.0.1:{port}{extra} backlog=4096;"
    return lines + (f" listen [::1]:{port}{extra} backlog=4096;" if has_ipv6() else "")


def start_upstream(ground: Ground) -> None:
    """What every target forwards to: one nginx worker; a small body, a large file, the event stream."""
    ground.source = free_port()
    source = ground.python("events", "-m", "bench.events", str(ground.source))
    wait_for_port(ground.source, source)
    large = ground.directory / "bulk"
    with large.open("wb") as file:
        file.truncate(ground.bulk_bytes)
    with large.open("rb") as file:
        while file.read(1 << 20):  # into the page cache, or the first target would pay for it
            pass
    ground.upstream = free_port()
    nginx = ground.nginx(
        "upstream",
        f"""  server {{
    {listen_on(ground.upstream)}
    location /hello {{ default_type text/plain; return 200 "{BODY.decode()}"; }}
    location = /bulk {{ default_type application/octet-stream; alias {large}; }}
    location = /events {{
      proxy_pass http://127.0.0.1:{ground.source}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
""",
    )
    wait_for_port(ground.upstream, nginx)
    ground.upstream_processes = (nginx, source)


def _make_certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench.localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("bench.localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].touch(0o600)
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths
