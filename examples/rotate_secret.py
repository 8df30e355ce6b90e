"""A new connect secret for an agent that runs: its session stays, the old secret opens no new one."""

import sys

import wellhead


def main() -> None:
    name, upstream = sys.argv[1:3] if len(sys.argv) > 2 else ("my-agent", "http://localhost:8000")
    with wellhead.Wellhead() as server, server.tunnels.connect(upstream, name=name) as listener:
        assert listener.tunnel is not None
        secret = server.tunnels.rotate_secret(listener.tunnel.id)
        print(f"{listener.public_url} is {listener.status.value} with the old secret")
    with server.tunnels.connect(upstream, name=name, secret=secret) as listener:
        print(f"{listener.public_url} is {listener.status.value} with the new one")


if __name__ == "__main__":
    main()
