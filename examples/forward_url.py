"""Put a local app on a public hostname, from a plain script: python examples/forward_url.py 8000"""

import contextlib
import sys

import wellhead


def main() -> None:
    upstream = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
    with contextlib.suppress(KeyboardInterrupt), wellhead.connect(upstream) as listener:
        print(f"{listener.public_url} -> {upstream}", flush=True)
        listener.wait()


if __name__ == "__main__":
    main()
