"""The first word with a guest: whether the program in a sandbox answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from wellhead.errors import HostError, ProtocolError
from wellhead.wire.guest import GuestFrame, GuestFrames, message, read_message

_READ = 65536  # bytes


async def hello(guest_socket: Path, seconds: float) -> dict[str, object]:
    """What the guest says of itself: ``version``, ``pid``, ``processes``.

    Raises:
        HostError: it does not answer within ``seconds``, or not as a guest does.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _ask(guest_socket)
    except TimeoutError as error:
        raise HostError(f"the sandbox did not answer within {seconds:g} s") from error
    except (OSError, ProtocolError) as error:
        raise HostError(f"the sandbox does not answer: {error}") from error


async def _ask(guest_socket: Path) -> dict[str, object]:
    reader, writer = await asyncio.open_unix_connection(guest_socket)
    try:
        writer.write(message({"do": "hello"}))
        frames = GuestFrames()
        while data := await reader.read(_READ):
            for kind, payload in frames.receive(data):
                answer = read_message(payload) if kind is GuestFrame.MESSAGE else {}
                facts = answer.get("ok")
                if not isinstance(facts, dict):
                    raise ProtocolError(f"it answers hello with {answer.get('error', kind.name)}")
                return facts
        raise ProtocolError("it closed the connection")
    finally:
        writer.transport.abort()
