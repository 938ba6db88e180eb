"""Calls of ASGI applications (https://asgi.readthedocs.io)."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from contextlib import suppress
from typing import Any

from .http import Collected, ExecutedCall, HttpCall, Request, Writer
from .results import Answer, application_answer
from .streams import CallOutput

_VERSIONS = {"version": "3.0", "spec_version": "2.4"}


def scope_of(request: Request, state: dict[str, Any]) -> dict[str, Any]:
    """As under `uvicorn --root-path`: the path has the root before it."""
    client = (request.first(b"x-forwarded-for") or "").rpartition(",")[2].strip()
    return {
        "type": "http",
        "asgi": _VERSIONS,
        "http_version": "1.1",
        "server": request.server,
        "client": (client, 0) if client else None,
        "scheme": request.scheme,
        "method": request.method,
        "root_path": request.root,
        "path": request.root + request.path,
        "raw_path": request.root.encode("latin-1") + request.raw_path,
        "query_string": request.query,
        "headers": request.headers,
        "state": state.copy(),
    }


async def _send(writer: Writer, message: Any) -> None:
    match message["type"]:
        case "http.response.start":
            writer.begin(message["status"], message.get("headers", ()))
        case "http.response.body":
            more = bool(message.get("more_body", False))
            await writer.write(bytes(message.get("body", b"")), more=more)
        case other:
            raise RuntimeError(f"An application can't send {other!r:.60} here.")


class AsgiHttpCall(HttpCall):
    state: dict[str, Any]

    def start(self, function: Any) -> Any:
        return function(scope_of(self.request, self.state), self.receive, self.send_message)

    async def send_message(self, message: Any) -> None:
        await _send(self.wire, message)

    async def answer_on_loop(self, value: Any, max_bytes: int) -> Answer | None:
        if self.wire.fault is not None:
            raise self.wire.fault
        if not self.wire.complete:
            raise RuntimeError("The application returned before its answer was complete.")
        return None


class AsgiCall(ExecutedCall):
    """`execute` of an application: it is sent the payload with POST /."""

    def __init__(
        self,
        payload: str,
        limits: tuple[int, int],
        output: CallOutput,
        send: Any,
        request: Request,
        state: dict[str, Any],
        max_bytes: int,
    ) -> None:
        super().__init__(payload, *limits, output, send)
        self.request = request
        self.state = state
        self.collected = Collected(max_bytes)
        self._is_read = False
        self._answered = asyncio.Event()

    def start(self, function: Any) -> Any:
        return function(scope_of(self.request, self.state), self.receive, self.send_message)

    async def receive(self) -> Any:
        if not self._is_read:
            self._is_read = True
            return {"type": "http.request", "body": self.payload.encode(), "more_body": False}
        await self._answered.wait()
        return {"type": "http.disconnect"}

    async def send_message(self, message: Any) -> None:
        await _send(self.collected, message)
        if self.collected.complete:
            self._answered.set()

    async def answer_on_loop(self, value: Any, max_bytes: int) -> Answer | None:
        if self.collected.fault is not None:
            raise self.collected.fault
        if not self.collected.complete:
            raise RuntimeError("The application returned before its answer was complete.")
        found = self.collected
        return application_answer(found.status, found.media_type, bytes(found.body), max_bytes)


class LifespanFailed(Exception):  # noqa: N818 - named for what it says
    """The application said that it can't start."""


class Lifespan:
    """What an application does before its first request, and after its last one."""

    def __init__(self, function: Any, loop: AbstractEventLoop) -> None:
        self.state: dict[str, Any] = {}
        self._function = function
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        self._told: asyncio.Queue[Any] = asyncio.Queue()

    async def start(self) -> None:
        """Raises LifespanFailed. An application that knows nothing of it goes without."""
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._task = self._loop.create_task(self._run())
        told = await self._told.get()
        if told is not None and told["type"] == "lifespan.startup.failed":
            raise LifespanFailed(
                str(told.get("message", "")) or "The application's startup failed."
            )

    async def stop(self) -> None:
        if self._task is None or self._task.done():
            return
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        await self._told.get()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": _VERSIONS, "state": self.state}
        with suppress(BaseException):
            await self._function(scope, self._messages.get, self._told.put)
        self._told.put_nowait(None)
