"""Who is connected, and who changed what: many questions at once, awaited."""

import asyncio

import wellhead


async def main() -> None:
    async with wellhead.AsyncWellhead() as server:
        tunnels, keys, audit = await asyncio.gather(
            server.tunnels.list(), server.keys.list(), server.audit.list(limit=10)
        )
    print(f"{len(tunnels)} tunnels, {len(keys)} keys")
    for tunnel in tunnels:
        state = "connected" if tunnel.currently_connected else tunnel.status.name.lower()
        print(f"{tunnel.tunnel_name}: {state}")
    for entry in audit.items:
        print(f"{entry.at:%H:%M:%S} {entry.action} {entry.target_name} by …{entry.key_last4}")


if __name__ == "__main__":
    asyncio.run(main())
