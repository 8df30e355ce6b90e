"""A tunnel's life from Python: made, described, looked at, deleted, restored, ended for good."""

import sys

import wellhead
from wellhead import TunnelStatus


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "example-tunnel"
    with wellhead.Wellhead() as server:
        made = server.tunnels.create(name, metadata={"made by": "an example"})
        print(f"{made.tunnel.public_urls[0]}, its secret has {len(made.connect_secret.reveal())} characters")
        server.tunnels.update(made.tunnel.id, description="here for a moment")
        left = server.tunnels.delete(made.tunnel.id)
        assert left.status is TunnelStatus.PENDING_REMOVAL
        print(f"may be restored until {left.restore_deadline_at}")
        server.tunnels.restore(made.tunnel.id)

        server.tunnels.delete(made.tunnel.id)
        print(f"{name} is {server.tunnels.force_delete(made.tunnel.id).status.value}")


if __name__ == "__main__":
    main()
