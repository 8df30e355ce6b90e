"""The example that bridges a call to a speech model, with a stand-in for the model."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.kit.programs import Edge, Program, environment
from tests.kit.realtime_server import Model, realtime

EXAMPLE = Path(__file__).parents[2] / "examples" / "voice_bridge.py"
FRAME = bytes([1]) + bytes(range(159))  # 20 ms at 8 kHz

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@asynccontextmanager
async def bridging(home: Path, **variables: str) -> AsyncIterator[tuple[Model, Edge, str]]:
    """The example, running; the model behind it and the name that calls come to."""
    async with realtime() as model:
        with Edge(home) as edge:
            url = f"ws://127.0.0.1:{model.port}/v1/realtime"
            extra = {"OPENAI_REALTIME_URL": url, "OPENAI_API_KEY": "sk-test", **variables}
            with Program([sys.executable, str(EXAMPLE)], environment(home, **extra)) as program:
                found = await asyncio.to_thread(program.line, r"^wss://([^/:]+):(\d+)/call$")
                yield model, edge, found[1]


@asynccontextmanager
async def calling(edge: Edge, hostname: str) -> AsyncIterator[websockets.ClientConnection]:
    context: ssl.SSLContext = edge.trust()
    async with websockets.connect(
        f"wss://{hostname}:{edge.https}/call", ssl=context, host="127.0.0.1", server_hostname=hostname
    ) as call:
        yield call


def media(audio: bytes) -> str:
    return json.dumps({"event": "media", "media": {"payload": base64.b64encode(audio).decode()}})


async def heard(call: websockets.ClientConnection) -> Any:
    async with asyncio.timeout(20):
        return json.loads(await call.recv())


async def test_audio_goes_both_ways_and_may_be_interrupted(tmp_path: Path) -> None:
    async with bridging(
        tmp_path, USE_OPENAI_REALTIME="true", ACCEPT_HEADERS="X-Use-Managed-Speech: false\nX-Other: 1"
    ) as (model, edge, hostname):
        async with calling(edge, hostname) as call:
            assert call.response is not None
            assert call.response.headers["X-Use-Managed-Speech"] == "false"
            assert call.response.headers["X-Other"] == "1"
            await call.send(json.dumps({"event": "start", "start": {"stream_id": "s1"}}))
            for number in range(50):
                await call.send(media(FRAME + bytes([number])))
            for number in range(50):
                message = await heard(call)
                assert message["event"] == "media" and message["stream_id"] == "s1"
                assert base64.b64decode(message["media"]["payload"])[::-1] == FRAME + bytes([number])
            await call.send(media(bytes([2])))
            assert await heard(call) == {"event": "clear", "stream_id": "s1"}
            await call.send(json.dumps({"event": "stop"}))
            with pytest.raises(websockets.ConnectionClosed):
                await heard(call)
            assert call.close_code == 1000
        await asyncio.wait_for(model.closed.get(), 10)
        kinds = [message["type"] for message in model.heard]
        assert model.keys == ["Bearer sk-test"] and kinds[0] == "session.update"
        assert model.heard[0]["session"]["audio"]["input"]["format"] == {"type": "audio/pcmu"}
        assert kinds.count("input_audio_buffer.append") == 51 and kinds[-1] == "response.cancel"

        async with calling(edge, hostname) as call:  # the model hangs up first
            await call.send(media(bytes([3])))
            with pytest.raises(websockets.ConnectionClosed):
                await heard(call)
            assert call.close_code == 1000

        await asyncio.wait_for(model.closed.get(), 10)
        async with calling(edge, hostname) as call:
            call.transport.abort()  # the caller vanishes
            await asyncio.wait_for(model.closed.get(), 10)


async def test_without_the_model_the_managed_speech_stays_on(tmp_path: Path) -> None:
    async with bridging(tmp_path) as (_, edge, hostname), calling(edge, hostname) as call:
        assert call.response is not None and "X-Use-Managed-Speech" not in call.response.headers
        await call.send(json.dumps({"event": "text", "text": "hello"}))
        assert await heard(call) == {"event": "text", "text": "You said: hello"}
