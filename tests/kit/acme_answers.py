"""Where an ACME authority looks for proofs: a plain port and a TLS port, both real."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator


class Answers:
    """``Challenges``, on this process's own ports."""

    def __init__(self) -> None:
        self.http: dict[tuple[str, str], str] = {}  # hostname, token -> answer
        self.contexts: dict[str, ssl.SSLContext] = {}
        self.asked: list[str] = []
        self.ports = (0, 0)  # plain, TLS

    async def put_http(self, hostname: str, token: str, answer: str) -> None:
        self.http[hostname, token] = answer

    async def put_alpn(self, hostname: str, certificate_pem: str, key_pem: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["acme-tls/1"])
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(certificate_pem + key_pem)
            file.flush()
            context.load_cert_chain(file.name)
        self.contexts[hostname] = context

    async def remove(self, hostname: str, token: str = "") -> None:
        if token:
            self.http.pop((hostname, token), None)
        else:
            self.contexts.pop(hostname, None)

    @property
    def empty(self) -> bool:
        return not self.http and not self.contexts

    async def _plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ", 2)[1]
        hostname = head.lower().partition("\r\nhost: ")[2].partition("\r\n")[0].partition(":")[0]
        self.asked.append(hostname)
        body = self.http.get((hostname, path.rpartition("/")[2]), "")
        status = "200 OK" if body and path.startswith("/.well-known/acme-challenge/") else "404 Not Found"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        writer.close()

    async def _tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    def _choose(self, sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        self.asked.append(name or "")
        context = self.contexts.get(name or "")
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        sock.context = context
        return None


@contextlib.asynccontextmanager
async def answering() -> AsyncIterator[Answers]:
    """Both ports listen on 127.0.0.1."""
    answers = Answers()
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    outer.set_alpn_protocols(["acme-tls/1"])
    outer.sni_callback = answers._choose
    plain = await asyncio.start_server(answers._plain, "127.0.0.1", 0)
    tls = await asyncio.start_server(answers._tls, "127.0.0.1", 0, ssl=outer)
    answers.ports = (plain.sockets[0].getsockname()[1], tls.sockets[0].getsockname()[1])
    async with plain, tls:
        yield answers
