"""The application: its two routes are plain ASGI, and come before FastAPI's router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from json import loads
from time import monotonic_ns
from typing import Any

from .calls import Call, CallTable, Send
from .console import CallOutput, Sink
from .forking import ForkWatch
from .invoking import Invoker
from .pulse import NoticeBoard, Pulse
from .results import Answer, handler_timeout, refused, worker_draining, worker_misdirected
from .settings import Settings

PROTOCOL = 1
# The manager owns the deadline; this worker's own answer comes a little after.
_GRACE_SECONDS = 0.01
# How long a cancelled coroutine may take to clean up before its runner counts as stuck.
_CANCEL_SECONDS = 0.25
_REQUEST_ID_CHARS = 128
PAYLOAD_REFUSED = refused(422, 'The body must be a JSON object with a string "payload".')

Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]
Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class FunctionApp:
    def __init__(
        self,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        pulse: Pulse,
        board: NoticeBoard,
        runner: int,
        sinks: tuple[Sink, Sink],
        on_stuck: Callable[[Call], None],
        on_abandoned: Callable[[Call], None],
    ) -> None:
        self.settings = settings
        self.function: bytes | None = None
        self.pulse = pulse
        self.board = board
        self.runner = runner
        self.sinks = sinks
        self.on_stuck = on_stuck
        self.on_abandoned = on_abandoned
        self.closing = False
        self.draining = False
        self.on_start: Callable[[], None] = lambda: None
        self.loop = loop
        self.background: set[asyncio.Task[None]] = set()
        self.router: Endpoint | None = None

    def begin(
        self, settings: Settings, invoker: Invoker, calls: CallTable, forks: ForkWatch
    ) -> None:
        """There is a function now, and requests may come."""
        self.settings = settings
        self.function = settings.function.encode() if settings.function else None
        self.invoker = invoker
        self.calls = calls
        self.forks = forks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, method = scope["path"], scope["method"]
            if path == "/" and method == "POST":
                return await self.execute(scope, receive, send)
            if path == "/health" and method == "GET":
                return await self.health(scope, receive, send)
        if self.router is None:
            # On a thread of its own: calls in flight go on meanwhile.
            self.router = await self.loop.run_in_executor(None, self._load_router)
        return await self.router(scope, receive, send)

    def _load_router(self) -> Endpoint:
        from .routing import router_around

        return router_around(self.execute, self.health)

    async def execute(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_ns = monotonic_ns()
        limit_ms = self.settings.timeout_ms
        request_id = None
        length = 0
        misdirected = False
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                request_id = _printable(value)
            elif name == b"x-faas-timeout-ms":
                if value.isdigit() and len(value) < 16:
                    limit_ms = min(limit_ms, int(value))
            elif name == b"x-faas-function":
                misdirected = self.function is not None and value != self.function
            elif name == b"content-length" and value.isdigit():
                length = int(value) if len(value) < 16 else 2**63
        body = await read_body(receive, length, self.settings.max_body_bytes)
        if type(body) is not bytes:
            if body is not None:
                await respond(send, body)
            return None
        payload = _payload_of(body)
        if payload is None:
            return await respond(send, PAYLOAD_REFUSED)
        if misdirected:
            return await respond(send, worker_misdirected())
        if self.draining:
            return await respond(send, worker_draining())
        call = Call(payload, limit_ms, started_ns, CallOutput(request_id), send)
        self.on_start()
        seconds = (call.deadline_ns - monotonic_ns()) / 1e9 + _GRACE_SECONDS
        call.timer = self.loop.call_later(max(seconds, 0), self._expire, call)
        scope["faas.on_disconnect"] = lambda: self._abandon(call)
        if not self.calls.enter(call):
            entered = await self._wait_turn(call)
            if not entered:
                return None
        try:
            answer = await self.invoker.answer(call)
            if self.forks.concerns(started_ns):
                await self.forks.settle()
        finally:
            call.timer.cancel()
            call.output.finish(self.sinks)
            self.calls.leave(call)
        if not call.settled and answer is not None:
            call.settled = True
            if answer.status == 200:
                self.pulse.count_served()
            await respond(send, answer, close=self.closing)
        return None

    async def health(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            last_exit = json.loads(self.board.read() or b"null")
        except ValueError:
            last_exit = None
        document = {
            "status": "ok",
            "timestamp": datetime.now(UTC).isoformat(),
            "worker": {"protocol": PROTOCOL, "runner": self.runner, "last_exit": last_exit},
        }
        self.pulse.count_served()
        answer = Answer(200, json.dumps(document).encode())
        await respond(send, answer, close=self.closing)

    async def _wait_turn(self, call: Call) -> bool:
        call.task = asyncio.current_task()
        try:
            await self.calls.wait_turn(call)
        except asyncio.CancelledError:
            # Only its deadline or its caller ends a call that waits.
            return False
        finally:
            call.task = None
            if call.settled:
                self.calls.leave(call)
        return not call.settled

    def _expire(self, call: Call) -> None:
        call.overdue = True
        if not call.settled:
            call.settled = True
            # Without a task it is a thread that can't be stopped: this runner is about to go.
            answer = handler_timeout(call.limit_ms, close=call.task is None)
            self._start(respond(call.send, answer))
        if call.task is None:
            if call in self.calls.running:
                self.on_stuck(call)
            return
        call.task.cancel()
        call.timer = self.loop.call_later(_CANCEL_SECONDS, self._check_ended, call)

    def _check_ended(self, call: Call) -> None:
        if call in self.calls.running:
            self.on_stuck(call)

    def _abandon(self, call: Call) -> None:
        """The caller hung up: a coroutine ends now, a thread has until its limit."""
        if call.settled:
            return
        call.settled = True
        if call.task is None:
            self._leave_alone(call)
        else:
            call.task.cancel()
            self.loop.call_later(_CANCEL_SECONDS, self._leave_alone, call)

    def _leave_alone(self, call: Call) -> None:
        if call in self.calls.running and not call.overdue:
            self.on_abandoned(call)

    def _start(self, answer: Any) -> None:
        task = self.loop.create_task(answer)
        self.background.add(task)
        task.add_done_callback(self.background.discard)


async def respond(send: Send, answer: Answer, *, close: bool = False) -> None:
    body = answer.body
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if answer.close or close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive, length: int, limit: int) -> bytes | Answer | None:
    """The body, the refusal to send instead of it, or None when the caller hung up."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    if not message["more_body"] and length <= limit:
        body = message["body"]
        return body if len(body) <= limit else _too_large(limit)
    chunks, size = [message["body"]], len(message["body"])
    # A refused body is read on for a while: closing early would reset the caller's socket
    # before it has read the answer.
    while message["more_body"] and size <= 2 * limit:
        message = await receive()
        if message["type"] != "http.request":
            return None
        size += len(message["body"])
        if max(size, length) > limit:
            chunks.clear()
        else:
            chunks.append(message["body"])
    return b"".join(chunks) if max(size, length) <= limit else _too_large(limit)


def _too_large(limit: int) -> Answer:
    return refused(413, f"The body may have at most {limit} bytes.", close=True)


def _payload_of(body: bytes) -> str | None:
    try:
        document = loads(body)
    except (ValueError, RecursionError):
        return None
    payload = document.get("payload") if type(document) is dict else None
    return payload if type(payload) is str else None


def _printable(value: bytes) -> str | None:
    text = value[:_REQUEST_ID_CHARS].decode("latin-1")
    if text and text.isascii() and text.isprintable() and " " not in text:
        return text
    return "".join(char if "!" <= char <= "~" else "?" for char in text) or None
