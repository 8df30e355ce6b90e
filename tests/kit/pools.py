"""Pools that a test makes, for an upstream on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from wellhead.net.upstream import UpstreamLimits, UpstreamPool
from wellhead.net.upstream_address import parse_upstream
from wellhead.net.upstream_dial import upstream_contexts

PoolOf = Callable[..., UpstreamPool]


@contextlib.asynccontextmanager
async def making_pools(scheme: str) -> AsyncIterator[PoolOf]:
    """A maker of pools for whatever has a ``port``, a port itself or an address; they are closed at the end.

    Its keyword arguments are those of the pool, ``http`` and ``ca_file`` of its address, or limits.
    """
    pools: list[UpstreamPool] = []

    def make(server: object, **options: object) -> UpstreamPool:
        where = (
            server if isinstance(server, str) else f"{scheme}://127.0.0.1:{getattr(server, 'port', server)}"
        )
        address = parse_upstream(where, str(options.pop("http", "auto")))
        contexts = upstream_contexts(address, ca_file=options.pop("ca_file", None))  # type: ignore[arg-type]
        pool = UpstreamPool(
            address,
            ssl_context=contexts.http1,
            h2_context=contexts.http2,
            host_header=str(options.pop("host_header", "rewrite")),
            on_exchange=options.pop("on_exchange", None),  # type: ignore[arg-type]
            limits=UpstreamLimits(**options),  # type: ignore[arg-type]  # a test names them
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.aclose()
