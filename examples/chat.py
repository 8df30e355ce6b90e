"""A chat that answers token by token, by events and by a WebSocket: wellhead run examples.chat:app"""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, StreamingResponse

app = FastAPI()

PAGE = """<!doctype html><meta charset="utf-8"><title>chat</title>
<style>
  body { font: 18px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }
  form { display: flex; gap: .5rem } input { flex: 1; font: inherit; padding: .4rem }
  button { font: inherit } p { min-height: 1.5em; border-left: 3px solid #2a7; padding-left: .8rem }
</style>
<h1>Chat</h1>
<form><input name="prompt" value="hello" autocomplete="off">
  <button name="how" value="events">Events</button> <button name="how" value="socket">Socket</button></form>
<p id="answer"></p>
<script>
  const answer = document.querySelector("#answer");
  const token = (text) => { answer.textContent += text; answer.dataset.tokens = +answer.dataset.tokens + 1 };
  const socket = new WebSocket(location.href.replace(/^http/, "ws") + "ws");
  socket.onmessage = (event) => event.data === "" ? answer.dataset.done = 1 : token(event.data);
  document.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    const prompt = event.target.prompt.value;
    answer.textContent = ""; answer.dataset.tokens = 0; delete answer.dataset.done;
    if (event.submitter.value === "socket") return socket.send(prompt);
    const events = new EventSource("events?prompt=" + encodeURIComponent(prompt));
    events.onmessage = (event) => token(JSON.parse(event.data));
    events.addEventListener("done", () => { events.close(); answer.dataset.done = 1 });
  };
</script>
"""


async def tokens(prompt: str) -> AsyncIterator[str]:
    """What a model would say, as fast as one."""
    for word in f"You said “{prompt}”, and every word of this came when it was ready.".split():
        yield word + " "
        await asyncio.sleep(0.05)


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.get("/events")
async def events(prompt: str) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async for token in tokens(prompt):
            yield f"data: {json.dumps(token)}\n\n"
        yield "event: done\ndata:\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.websocket("/ws")
async def converse(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            async for token in tokens(await ws.receive_text()):
                await ws.send_text(token)
            await ws.send_text("")
    except WebSocketDisconnect:
        pass
