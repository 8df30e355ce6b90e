"""The same in a program with a loop of its own: a line per request and per change of the connection."""

import asyncio
import contextlib
import sys

import wellhead


def on_request(exchange: wellhead.Exchange) -> None:
    print(exchange.method, exchange.target, exchange.status, flush=True)


async def main() -> None:
    upstream = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
    async with await wellhead.connect_async(upstream, on_request=on_request) as listener:
        listener.on_status(lambda status, error: print(status.value, error or "", flush=True))
        print(f"{listener.public_url} -> {upstream}", flush=True)
        await listener.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
