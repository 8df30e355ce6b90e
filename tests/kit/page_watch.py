"""What a page of a browser asks for, and what it complains about, while it is used."""

from __future__ import annotations

from playwright.sync_api import ConsoleMessage, Page, Request, Response, WebSocket


class PageWatch:
    """``failed``: requests that nobody answered, or with 400 or more; ``errors``: of its console."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.sockets: list[WebSocket] = []
        self.failed: list[str] = []
        self.errors: list[str] = []
        self.frames = 0
        page.on("request", self._requested)
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)
        page.on("websocket", self._talks)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    @property
    def complaints(self) -> list[str]:
        return [*self.failed, *self.errors]

    def _requested(self, request: Request) -> None:
        self.requests.append(f"{request.method} {request.url}")

    def _failed(self, request: Request) -> None:
        # Leaving a page, and taking a file instead of one, ends its requests.
        if request.failure != "net::ERR_ABORTED":
            self.failed.append(f"{request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.failed.append(f"{response.request.method} {response.url}: {response.status}")

    def _talks(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        socket.on("framereceived", self._heard)
        socket.on("socketerror", lambda error: self.errors.append(f"{socket.url}: {error}"))

    def _heard(self, _: object) -> None:
        self.frames += 1

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)
