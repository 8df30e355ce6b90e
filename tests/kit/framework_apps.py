"""The same small site in each framework: uploads, events, a WebSocket room, work behind a reply, cookies."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

EVENTS = [f"data: {number}\n\n" for number in range(3)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def _events() -> AsyncIterator[str]:
    for event in EVENTS:
        yield event
        await asyncio.sleep(0.05)


def fastapi_app() -> Any:
    import fastapi
    from fastapi.responses import StreamingResponse

    # By module: annotations are names, and the framework looks for them among this module's.
    globals().update(fastapi=fastapi)
    app = fastapi.FastAPI()
    done: list[str] = []
    room: set[Any] = set()

    @app.post("/upload")
    async def upload(file: fastapi.UploadFile) -> dict[str, object]:
        return {"name": file.filename, "digest": _digest(await file.read())}

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(_events(), media_type="text/event-stream")

    @app.post("/job", status_code=202)
    async def job(tasks: fastapi.BackgroundTasks) -> dict[str, bool]:
        tasks.add_task(done.append, "done")
        return {"accepted": True}

    @app.get("/job")
    async def look() -> list[str]:
        return done

    @app.get("/cookies")
    async def cookies(response: fastapi.Response) -> str:
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return "set"

    @app.websocket("/room")
    async def enter(ws: fastapi.WebSocket) -> None:
        await ws.accept()
        room.add(ws)
        try:
            while True:
                text = await ws.receive_text()
                for member in list(room):
                    await member.send_text(text)
        except fastapi.WebSocketDisconnect:
            room.discard(ws)

    return app


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    done: list[str] = []
    room: set[WebSocket] = set()

    async def upload(request: Request) -> Response:
        async with request.form() as form:
            file: Any = form["file"]
            return JSONResponse({"name": file.filename, "digest": _digest(await file.read())})

    async def events(request: Request) -> Response:
        return StreamingResponse(_events(), media_type="text/event-stream")

    async def job(request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse(done)
        return JSONResponse({"accepted": True}, 202, background=BackgroundTask(done.append, "done"))

    async def cookies(request: Request) -> Response:
        response = PlainTextResponse("set")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async def enter(ws: WebSocket) -> None:
        await ws.accept()
        room.add(ws)
        try:
            while True:
                text = await ws.receive_text()
                for member in list(room):
                    await member.send_text(text)
        except WebSocketDisconnect:
            room.discard(ws)

    return Starlette(
        routes=[
            Route("/upload", upload, methods=["POST"]),
            Route("/events", events),
            Route("/job", job, methods=["GET", "POST"]),
            Route("/cookies", cookies),
            WebSocketRoute("/room", enter),
        ]
    )


def quart_app() -> Any:
    from quart import Quart, Response, make_response, request, websocket

    app = Quart(__name__)
    done: list[str] = []
    room: set[asyncio.Queue[str]] = set()

    async def upload() -> dict[str, object]:
        file = (await request.files)["file"]
        return {"name": file.filename, "digest": _digest(file.read())}

    async def events() -> Response:
        async def encoded() -> AsyncIterator[bytes]:
            async for event in _events():
                yield event.encode()

        return Response(encoded(), content_type="text/event-stream")

    async def job() -> Any:
        if request.method == "GET":
            return done

        async def work() -> None:
            done.append("done")

        app.add_background_task(work)
        return {"accepted": True}, 202

    async def cookies() -> Any:
        response: Any = await make_response("set")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async def enter() -> None:
        mine: asyncio.Queue[str] = asyncio.Queue()
        room.add(mine)

        async def say() -> None:
            while True:
                await websocket.send(await mine.get())

        saying = asyncio.ensure_future(say())
        try:
            while True:
                text = await websocket.receive()
                for member in room:
                    member.put_nowait(str(text))
        finally:
            saying.cancel()
            room.discard(mine)

    app.add_url_rule("/upload", view_func=upload, methods=["POST"])
    app.add_url_rule("/events", view_func=events)
    app.add_url_rule("/job", view_func=job, methods=["GET", "POST"])
    app.add_url_rule("/cookies", view_func=cookies)
    app.add_websocket("/room", view_func=enter)
    return app


def flask_app() -> Any:
    from flask import Flask, Response, jsonify, make_response, request

    app = Flask(__name__)
    done: list[str] = []

    def upload() -> Any:
        file = request.files["file"]
        return jsonify(name=file.filename, digest=_digest(file.read()))

    def events() -> Response:
        return Response(iter(EVENTS), mimetype="text/event-stream")

    def job() -> Any:
        if request.method == "GET":
            return jsonify(done)
        threading.Thread(target=done.append, args=("done",)).start()
        return jsonify(accepted=True), 202

    def cookies() -> Response:
        response = make_response("set")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    app.add_url_rule("/upload", view_func=upload, methods=["POST"])
    app.add_url_rule("/events", view_func=events)
    app.add_url_rule("/job", view_func=job, methods=["GET", "POST"])
    app.add_url_rule("/cookies", view_func=cookies)
    return app


_jobs: list[str] = []


def _django() -> None:
    """One configuration for both of Django's interfaces."""
    import django
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
    from django.urls import path

    if settings.configured:
        return

    def upload(request: HttpRequest) -> HttpResponse:
        file: Any = request.FILES["file"]
        return JsonResponse({"name": file.name, "digest": _digest(file.read())})

    def events(request: HttpRequest) -> StreamingHttpResponse:
        pieces: Any = _events() if getattr(request, "scope", None) else _plain_events()
        return StreamingHttpResponse(pieces, content_type="text/event-stream")

    def job(request: HttpRequest) -> HttpResponse:
        if request.method == "GET":
            return JsonResponse(_jobs, safe=False)
        threading.Thread(target=_jobs.append, args=("done",)).start()
        return JsonResponse({"accepted": True}, status=202)

    def cookies(request: HttpRequest) -> HttpResponse:
        response = HttpResponse("set")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    urls = type("Urls", (), {})()
    urls.urlpatterns = [
        path("upload", upload),
        path("events", events),
        path("job", job),
        path("cookies", cookies),
    ]
    settings.configure(
        ALLOWED_HOSTS=[".localhost"], ROOT_URLCONF=urls, SECRET_KEY="of a test", MIDDLEWARE=[], DEBUG=False
    )
    django.setup()


def _plain_events() -> Iterator[str]:
    yield from EVENTS


def django_asgi_app() -> Any:
    from django.core.asgi import get_asgi_application

    _django()
    return get_asgi_application()


def django_wsgi_app() -> Any:
    from django.core.wsgi import get_wsgi_application

    _django()
    return get_wsgi_application()


APPS: dict[str, Callable[[], Any]] = {
    "fastapi": fastapi_app,
    "starlette": starlette_app,
    "quart": quart_app,
    "flask": flask_app,
    "django-asgi": django_asgi_app,
    "django-wsgi": django_wsgi_app,
}
ROOMS = ("fastapi", "starlette", "quart")
