"""One errand for every HTTP client of Python: ``python tests/kit/http_clients.py LIBRARY URL``.

It prints what each part of the errand brought, as one JSON object: an upload with a length, one in chunks,
one that waits for 100, a compressed reply, redirects by path and by the public address.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

BODY = bytes(range(256)) * 4000
EXPECT = {"Expect": "100-continue"}


def pieces() -> Iterator[bytes]:
    for at in range(0, len(BODY), 100_000):
        yield BODY[at : at + 100_000]


async def pieces_in_time() -> AsyncIterator[bytes]:
    for piece in pieces():
        yield piece


def _errand(session: Any, url: str, body: str) -> dict[str, str]:
    """With a session of requests or what is like it; ``body`` is its word for what is sent."""
    take = f"{url}/take"
    return {
        "length": session.put(take, **{body: BODY}).text,
        "chunked": session.put(take, **{body: pieces()}).text,
        "expect": session.put(take, **{body: BODY}, headers=EXPECT).text,
        "gzip": session.get(f"{url}/gzip").text,
        "hops": session.get(f"{url}/hop/3").text,
        "away": session.get(f"{url}/away").text,
    }


def with_requests(url: str) -> dict[str, str]:
    import requests

    with requests.Session() as session:
        return _errand(session, url, "data")


def with_urllib3(url: str) -> dict[str, str]:
    import urllib3

    with urllib3.PoolManager(ca_certs=os.environ["SSL_CERT_FILE"]) as pool:

        def ask(method: str, path: str, **options: Any) -> str:
            return pool.request(method, url + path, **options).data.decode()

        return {
            "length": ask("PUT", "/take", body=BODY),
            "chunked": ask("PUT", "/take", body=pieces()),
            "expect": ask("PUT", "/take", body=BODY, headers=EXPECT),
            "gzip": ask("GET", "/gzip", headers={"Accept-Encoding": "gzip"}),
            "hops": ask("GET", "/hop/3"),
            "away": ask("GET", "/away"),
        }


def with_httpx(url: str, http2: bool = False) -> dict[str, str]:
    import httpx

    with httpx.Client(follow_redirects=True, http2=http2) as client:
        brought = _errand(client, url, "content")
        spoken = client.get(f"{url}/hop/0").http_version
        assert spoken == ("HTTP/2" if http2 and url.startswith("https:") else "HTTP/1.1"), spoken
        return brought


def with_httpx_over_http2(url: str) -> dict[str, str]:
    return with_httpx(url, http2=True)


def with_aiohttp(url: str) -> dict[str, str]:
    import aiohttp

    async def errand() -> dict[str, str]:
        async with aiohttp.ClientSession() as session:

            async def ask(method: str, path: str, **options: Any) -> str:
                async with session.request(method, url + path, **options) as reply:
                    return await reply.text()

            return {
                "length": await ask("PUT", "/take", data=BODY),
                "chunked": await ask("PUT", "/take", data=pieces_in_time()),
                "expect": await ask("PUT", "/take", data=BODY, expect100=True),
                "gzip": await ask("GET", "/gzip"),
                "hops": await ask("GET", "/hop/3"),
                "away": await ask("GET", "/away"),
            }

    return asyncio.run(errand())


CLIENTS = {
    "requests": with_requests,
    "urllib3": with_urllib3,
    "httpx": with_httpx,
    "httpx-http2": with_httpx_over_http2,
    "aiohttp": with_aiohttp,
}

if __name__ == "__main__":
    print(json.dumps(CLIENTS[sys.argv[1]](sys.argv[2])))
