"""Visitors' TLS that ends at the upstream: what carries it there unread, in two programs each.

The upstream is one nginx worker with a certificate of its own; its page and its large file are those of the
plain one. A connection asks once, so that connections a second are handshakes with the upstream.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from bench import product
from bench.ground import Ground, Route, listen_on, program
from bench.load import BODY, HOSTNAME, Door
from bench.processes import Child, Unavailable, free_port, wait_for_port
from bench.targets import ssh_pair
from wellhead.agent.certificate import make_request
from wellhead.client import Client
from wellhead.model.access import Secret
from wellhead.model.records import TlsMode

GROUP = "passthrough"
MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def upstream(ground: Ground) -> int:
    """The port of the upstream that ends TLS; started once."""
    return ground.once("tls-upstream", _upstream)


def _upstream(ground: Ground) -> int:
    certificate, key = ground.certificate()
    port = free_port()
    nginx = ground.nginx(
        "tls-upstream",
        f"""  server {{
    {listen_on(port, " ssl")}
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    location /hello {{ default_type text/plain; return 200 "{BODY.decode()}"; }}
    location = /bulk {{ default_type application/octet-stream; alias {ground.directory / "bulk"}; }}
  }}
""",
    )
    wait_for_port(port, nginx)
    ground.upstream_processes = (*ground.upstream_processes, nginx)
    return port


def direct(ground: Ground) -> Route:
    """The upstream itself."""
    return _route("direct-raw", "-", "none", upstream(ground))


def wellhead(ground: Ground) -> Route:
    """A passthrough tunnel with a ``tls://`` upstream."""
    edge = product.start_edge(ground, "wellhead-raw")
    _make_tunnel(edge)
    argv = ["-m", "wellhead", "http", f"tls://127.0.0.1:{upstream(ground)}", "--name", product.TUNNEL]
    agent = ground.python("wellhead-raw-agent", *argv, env=edge.env)
    product.until_it_answers(agent, Door(edge.https, tls=True))
    return _route("wellhead-raw", "TLS", product.LIMITS, edge.https, edge.process, agent)


def wellhead_edge(ground: Ground) -> Route:
    """For comparison, TLS that ends at the edge: its handshakes are the edge's own."""
    route = product.tls_visitors(ground)
    door = Door(route.door.port, tls=True)
    return Route("wellhead-edge", "TLS", "TLS", route.limits, door, route.edge, route.agent, (GROUP,))


def nginx_stream(ground: Ground) -> Route:
    """Two hops of nginx ``stream``; the first reads the server name, as our edge does."""
    far_port, port = free_port(), free_port()
    onward = f"server {{ {listen_on(far_port)} proxy_pass 127.0.0.1:{upstream(ground)}; }}"
    far = _stream(ground, "nginx-stream-far", onward)
    wait_for_port(far_port, far)
    near = _stream(
        ground,
        "nginx-stream-near",
        f"map $ssl_preread_server_name $next {{ {HOSTNAME} 127.0.0.1:{far_port}; }}\n"
        f"  server {{ {listen_on(port)} ssl_preread on; proxy_pass $next; }}",
    )
    wait_for_port(port, near)
    return _route("nginx-stream", "plain", "none, access log off", port, near, far)


def ssh(ground: Ground) -> Route:
    """``ssh -R`` whose far end is the TLS upstream."""
    sshd, client = ssh_pair(ground)
    port = free_port()
    agent = ground.spawn("ssh-raw", [*client, "-R", f"127.0.0.1:{port}:127.0.0.1:{upstream(ground)}"])
    wait_for_port(port, agent)
    return _route("ssh-R-raw", "SSH", "none", port, sshd, agent)


TARGETS: dict[str, Callable[[Ground], Route]] = {
    "direct-raw": direct,
    "wellhead-raw": wellhead,
    "wellhead-edge": wellhead_edge,
    "nginx-stream": nginx_stream,
    "ssh-R-raw": ssh,
}


def _route(name: str, carrier: str, limits: str, port: int, *programs: Child) -> Route:
    return Route(name, "TLS", carrier, limits, Door(port, tls=True), programs[:1], programs[1:], (GROUP,))


def _make_tunnel(edge: product.Edge) -> None:
    """A passthrough tunnel that is served: with a certificate, though the upstream shows another one."""
    url = f"https://localhost:{edge.https}"
    with Client(url, Secret(edge.key), ca_file=edge.data / "ca.pem") as client:
        tunnel = client.tunnels.create(product.TUNNEL, tls_mode=TlsMode.PASSTHROUGH).tunnel
        key = ec.generate_private_key(ec.SECP256R1())
        client.tunnels.sign_csr(tunnel.id, make_request(key, tunnel.public_host))


def _stream(ground: Ground, name: str, servers: str) -> Child:
    """An nginx of one worker with these servers in its ``stream`` block."""
    if not MODULE.exists():
        raise Unavailable("nginx has no stream module (apt install libnginx-mod-stream)")
    prefix = ground.directory / name
    prefix.mkdir()
    config = prefix / "nginx.conf"
    config.write_text(
        f"load_module {MODULE}; daemon off; pid {prefix}/pid; error_log {prefix}/error.log warn;\n"
        "worker_processes 1; worker_rlimit_nofile 65536; events { worker_connections 16384; }\n"
        f"stream {{\n  tcp_nodelay on;\n  {servers}\n}}\n"
    )
    return ground.spawn(name, [program("nginx"), "-p", str(prefix), "-c", str(config)])
