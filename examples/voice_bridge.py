"""A telephone call's WebSocket bridged to a realtime speech model.

    USE_OPENAI_REALTIME=true OPENAI_API_KEY=… python examples/voice_bridge.py

The call comes to /call as JSON messages: ``start`` (with a stream id), ``media`` (20 ms of g711 u-law, in
base64), ``stop``; to it go ``media`` and, when the caller begins to speak over the answer, ``clear``. Whoever
places calls may run speech services of its own unless the answer to the handshake says otherwise: that is
ACCEPT_HEADERS, by default ``X-Use-Managed-Speech: false``. Without USE_OPENAI_REALTIME those services stay,
and text is answered.
"""

import asyncio
import contextlib
import json
import os

import websockets

import wellhead

REALTIME = os.environ.get("USE_OPENAI_REALTIME", "").lower() == "true"
URL = os.environ.get("OPENAI_REALTIME_URL", "wss://api.openai.com/v1/realtime?model=gpt-realtime")
ACCEPT_HEADERS = os.environ.get("ACCEPT_HEADERS", "X-Use-Managed-Speech: false")
INSTRUCTIONS = os.environ.get("INSTRUCTIONS", "You answer the telephone. Be brief and friendly.")
ULAW = {"format": {"type": "audio/pcmu"}}


class Bridge:
    """One call and its conversation with the model."""

    def __init__(self, call: wellhead.WebSocket, model: websockets.ClientConnection) -> None:
        self.call = call
        self.model = model
        self.stream_id = ""
        self.answering = False

    async def run(self) -> None:
        session = {
            "type": "realtime",
            "instructions": INSTRUCTIONS,
            "audio": {"input": {**ULAW, "turn_detection": {"type": "server_vad"}}, "output": ULAW},
        }
        await self.tell_model("session.update", session=session)
        sides = {asyncio.create_task(self.from_call()), asyncio.create_task(self.from_model())}
        try:
            done, _ = await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
            for side in done:
                side.result()
        finally:  # whoever ended first, the other is told
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, return_exceptions=True)
            await self.model.close()
            await self.call.close(1000, "the conversation is over")

    async def from_call(self) -> None:
        async for text in self.call:
            message = json.loads(text)
            match message.get("event"):
                case "start":
                    self.stream_id = message["start"]["stream_id"]
                case "media":
                    await self.tell_model("input_audio_buffer.append", audio=message["media"]["payload"])
                case "stop":
                    return

    async def from_model(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in self.model:
                message = json.loads(text)
                match message["type"]:
                    case "response.output_audio.delta" | "response.audio.delta":
                        self.answering = True
                        await self.tell_call("media", media={"payload": message["delta"]})
                    case "response.done":
                        self.answering = False
                    case "input_audio_buffer.speech_started":
                        await self.tell_call("clear")  # what was not played yet is not wanted any more
                        if self.answering:
                            self.answering = False
                            await self.tell_model("response.cancel")
                    case "error":
                        print("model:", message["error"].get("message"), flush=True)

    async def tell_call(self, event: str, **more: object) -> None:
        await self.call.send(json.dumps({"event": event, "stream_id": self.stream_id, **more}))

    async def tell_model(self, kind: str, **more: object) -> None:
        await self.model.send(json.dumps({"type": kind, **more}))


async def on_call(call: wellhead.WebSocket, ctx: wellhead.Context) -> None:
    if call.path != "/call":
        await call.deny(404)
    elif REALTIME:
        key = os.environ.get("OPENAI_API_KEY", "")
        model = await websockets.connect(URL, additional_headers={"Authorization": f"Bearer {key}"})
        async with model:
            headers = dict(line.split(": ", 1) for line in ACCEPT_HEADERS.splitlines() if line)
            await call.accept(headers=headers)
            await Bridge(call, model).run()
    else:
        await call.accept()
        async for text in call:
            said = json.loads(text).get("text", "")
            await call.send(json.dumps({"event": "text", "text": f"You said: {said}"}))


async def pages(request: wellhead.Request) -> str:
    return "Calls come to /call.\n"


async def main() -> None:
    async with await wellhead.connect_async(pages, ws_handler=on_call, name="voice-bridge") as listener:
        print(f"{listener.public_url.replace('https', 'wss', 1)}/call", flush=True)
        await listener.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
