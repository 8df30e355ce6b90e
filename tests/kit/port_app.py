"""A server for a sandbox, of the standard library alone: ``python3 port_app.py PORT [ADDRESS]``.

``/echo…`` tells the request as it came, ``/cors…`` too and lets the pages of every origin read it, ``/page``
is one, ``/cookie`` sets one for all names of its domain, ``/ws`` echoes frames, ``/events`` says one thing
and waits, ``/silent`` never answers, ``/broken`` says what is no HTTP, ``/cut`` leaves within a reply,
``/bulk/BYTES`` sends as many.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys

PAGE = b"<!doctype html><title>a page</title><h1>here</h1>"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PIECE = bytes(range(256)) * 256

Fields = list[tuple[str, str]]


async def body_of(reader: asyncio.StreamReader, fields: Fields) -> tuple[int, str]:
    """Size and digest of what came, whatever its framing."""
    told, digest, size = {name.lower(): value for name, value in fields}, hashlib.sha256(), 0
    left = int(told.get("content-length", 0))
    chunked = "chunked" in told.get("transfer-encoding", "")
    while chunked or left:
        if chunked and not left:
            left = int(await reader.readline(), 16)
            if not left:
                await reader.readline()
                break
        data = await reader.read(min(left, 65536))
        if not data:
            break
        left -= len(data)
        size += len(data)
        digest.update(data)
        if chunked and not left:
            await reader.readline()
    return size, digest.hexdigest()


async def websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fields: Fields) -> None:
    key = next(value for name, value in fields if name.lower() == "sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
    )
    while True:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        mask = await reader.readexactly(4)
        data = bytes(byte ^ mask[at & 3] for at, byte in enumerate(await reader.readexactly(size)))
        length = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
        kind = first if first & 0x0F != 9 else 0x8A
        writer.write(bytes((kind,)) + length + data)
        if first & 0x0F == 8:
            return


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request; whether another may follow."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head[:-4].split("\r\n")
    method, target, _ = line.split(" ")
    fields = [(name, value.strip()) for name, _, value in (each.partition(":") for each in rest)]
    if target.startswith("/ws"):
        await websocket(reader, writer, fields)
        return False
    size, digest = await body_of(reader, fields)
    if target == "/silent":
        await asyncio.sleep(600)
    if target == "/broken":
        writer.write(b"this is no HTTP\r\n\r\n")
        return False
    if target == "/cut":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        return False
    if target == "/events":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: begun\n\n")
        await reader.read()
        return False
    if target.startswith("/bulk/"):
        left = int(target.rpartition("/")[2])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
        while left:
            writer.write(PIECE[:left])
            left -= min(left, len(PIECE))
            await writer.drain()
        return True
    if target.startswith("/page"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(PAGE))
        writer.write(PAGE)
        return True
    named = {name.lower(): value for name, value in fields}
    lines: list[str] = []
    if target.startswith("/cors"):
        lines.append(f"Access-Control-Allow-Origin: {named.get('origin', '*')}")
        lines += "Access-Control-Allow-Credentials: true", "Access-Control-Allow-Methods: PUT"
        lines.append("Access-Control-Allow-Headers: x-mine")
    if target == "/cookie":
        domain = named["x-forwarded-host"].partition(":")[0].partition(".")[2]
        lines.append(f"Set-Cookie: tossed=1; Path=/; Domain={domain}")
        lines.append("Set-Cookie: __Host-wellhead-port=x; Secure; Path=/")
    told = {"method": method, "target": target, "fields": fields, "size": size, "sha256": digest}
    body = json.dumps(told).encode()
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
        % ("".join(f"{line}\r\n" for line in lines).encode(), len(body))
    )
    writer.write(b"" if method == "HEAD" else body)
    return True


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await answer(reader, writer):
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, (sys.argv + ["127.0.0.1"])[2], int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
