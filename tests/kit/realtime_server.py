"""A stand-in for a realtime speech model: it says back what it hears, and can be interrupted.

Audio is told apart by its first byte: 0x01 is said back, 0x02 is the caller speaking over an answer, 0x03
ends the conversation from this side.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve


@dataclass
class Model:
    port: int = 0
    keys: list[str] = field(default_factory=list)  # of callers, as they showed them
    heard: list[dict[str, Any]] = field(default_factory=list)
    closed: asyncio.Queue[int] = field(default_factory=asyncio.Queue)  # codes

    async def converse(self, caller: ServerConnection) -> None:
        assert caller.request is not None
        self.keys.append(caller.request.headers.get("Authorization", ""))
        async for text in caller:
            message = json.loads(text)
            self.heard.append(message)
            if message["type"] == "input_audio_buffer.append":
                audio = base64.b64decode(message["audio"])
                if audio[0] == 1:
                    delta = base64.b64encode(audio[::-1]).decode()
                    await caller.send(json.dumps({"type": "response.output_audio.delta", "delta": delta}))
                elif audio[0] == 2:
                    await caller.send(json.dumps({"type": "input_audio_buffer.speech_started"}))
                else:
                    await caller.close(1000)
        self.closed.put_nowait(caller.close_code or 0)


@asynccontextmanager
async def realtime() -> AsyncIterator[Model]:
    """A model that listens on a free port."""
    model = Model()
    async with serve(model.converse, "127.0.0.1", 0) as server:
        model.port = next(iter(server.sockets)).getsockname()[1]
        yield model
