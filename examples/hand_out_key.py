"""A key that may answer for one tunnel and ends in a day: python examples/hand_out_key.py my-agent"""

import sys
from datetime import UTC, datetime, timedelta

import wellhead
from wellhead.errors import Conflict


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "my-agent"
    with wellhead.Wellhead() as server:
        try:
            tunnel = server.tunnels.create(name).tunnel
        except Conflict:
            found = server.tunnels.find(name)
            tunnel = found if found is not None else sys.exit(f"{name} is somebody else's")
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        made = server.keys.create(f"for {name}", scopes=[f"tunnel:{tunnel.id}"], expires_at=tomorrow)
        print(made.api_key.reveal())


if __name__ == "__main__":
    main()
