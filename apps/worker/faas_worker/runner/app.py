"""The application: its routes and HTTP calls are plain ASGI, and come before FastAPI's router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from json import loads
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from ..protocol import HTTP_PREFIX, PROTOCOL, Header, Kind, Reason
from .asgi import AsgiCall, AsgiHttpCall
from .calls import Call, Send
from .exchange import Receive, Scope, content_length, read_body, read_rest, respond
from .frames import Code
from .gate import Gate, may_look
from .http import HttpCall, posted, request_of
from .payloads import Context, ContextCall, PayloadHttpCall
from .platforms import LambdaCall, LambdaHttpCall, OpenFaasCall, OpenFaasHttpCall
from .results import (
    Answer,
    handler_timeout,
    payload_not_text,
    payload_too_large,
    refused,
    websocket_unsupported,
    worker_draining,
    worker_misdirected,
)
from .server import CONNECTION
from .streams import CallOutput
from .websocket import WebSocketCall
from .wsgi import WsgiCall, WsgiHttpCall

if TYPE_CHECKING:
    from .runner import Runner

# The manager owns the deadline; this worker's own answer comes a little after.
_GRACE_SECONDS = 0.01
# What an application gets of which a WebSocket is closed that has run past its time limit.
_CLOSING_NS = 1_500_000_000
# How long a cancelled coroutine may take to clean up before its runner counts as stuck.
_CANCEL_SECONDS = 0.25
# Most calls in threads end by themselves so soon.
_ENDING_SECONDS = 0.1
_REQUEST_ID_CHARS = 128
PAYLOAD_REFUSED = refused(422, 'The body must be a JSON object with a string "payload".')

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class FunctionApp:
    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.settings = runner.settings
        self.function: bytes | None = None
        self.gate = Gate(self.settings.call_sha256)
        #: Answers tell that their connection is closed.
        self.closing = False
        #: Calls are refused.
        self.draining = False
        #: No handler runs any more, not even for calls that wait already.
        self.is_damaged = False
        self.background: set[asyncio.Task[None]] = set()
        self.router: Endpoint | None = None

    def begin(self) -> None:
        """There is a function now, and requests may come."""
        self.loop = self.runner.loop
        self.settings = self.runner.settings
        self.function = self.settings.function.encode() if self.settings.function else None
        self.gate = Gate(self.settings.call_sha256)
        self.calls = self.runner.calls
        self.heartbeat = self.runner.heartbeat
        self.invoker = self.runner.invoker
        self.kind = self.runner.kind
        self._http_kind = _HTTP_KINDS[self.kind]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            path, method = scope["path"], scope["method"]
            if path == "/" and method == "POST":
                return await self.execute(scope, headers, receive, send)
            if path.startswith(HTTP_PREFIX + "/"):
                return await self.http(scope, headers, receive, send)
            if path == "/health" and method in ("GET", "HEAD"):
                return await self.health(scope, headers, receive, send)
            if not self.gate.admits(scope, headers):
                return await self.gate.turn_away(receive, send)
            del headers
        router = self.router
        if router is None:
            # On a thread of its own: calls in flight go on meanwhile.
            router = await asyncio.to_thread(self._load_router)
            self.router = router
        return await router(scope, receive, send)

    def _load_router(self) -> Endpoint:
        # Imported when it is needed: that takes longer than all else a worker begins with.
        from fastapi import FastAPI
        from starlette.routing import Route

        app = FastAPI(title="service-faas worker", docs_url=None, redoc_url=None, openapi_url=None)
        # Another method is refused there (405), not unknown (404); its own never gets here.
        for path, method in ("/", "POST"), ("/health", "GET"):
            app.router.routes.append(Route(path, self._never, methods=[method]))
        return app

    async def _never(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("It was answered before.")

    def _is_for_other(self, headers: dict[bytes, bytes]) -> bool:
        """A call for whoever had this address."""
        function = headers.get(Header.FUNCTION)
        return function is not None and self.function is not None and function != self.function

    async def _turn_away(self, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        if not self._is_for_other(headers):
            return await self.gate.turn_away(receive, send)
        # Whatever its token: it goes elsewhere at once.
        await read_rest(receive)
        return await respond(send, worker_misdirected())

    async def execute(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        started_ns = monotonic_ns()
        if not self.gate.admits(scope, headers) or self._is_for_other(headers):
            return await self._turn_away(headers, receive, send)
        limit_ms = self._limit_ms(headers)
        request_id = _printable(headers.get(Header.REQUEST_ID, b""))
        attempt = _number(headers.get(Header.ATTEMPT, b""))
        length = content_length(headers)
        headers.clear()  # The token is in there, and the handler can look at these frames.
        body = await read_body(receive, length, self.settings.max_body_bytes)
        if not isinstance(body, bytes):
            if body is not None:
                await respond(send, body)
            return None
        payload = _payload_of(body)
        del body
        if payload is None:
            return await respond(send, PAYLOAD_REFUSED)
        if self.draining:
            return await respond(send, worker_draining())
        limits = limit_ms, started_ns + limit_ms * 1_000_000
        if self.kind is Kind.PAYLOAD:
            call = Call(payload, *limits, CallOutput(request_id), send)
        else:
            call = self._call_of_kind(payload, limits, request_id, attempt, send)
        return await self._serve(call, scope, started_ns)

    def _call_of_kind(
        self,
        payload: str,
        limits: tuple[int, int],
        request_id: str | None,
        attempt: int | None,
        send: Send,
    ) -> Call:
        output = CallOutput(request_id)
        if self.kind in _CONTEXT_KINDS:
            context = self._context(request_id, limits[1], attempt)
            return _CONTEXT_KINDS[self.kind](payload, limits, output, send, context)
        request = posted(payload, request_id)
        if self.kind is Kind.WSGI:
            multithread = self.settings.concurrency > 1
            return WsgiCall(payload, limits, output, send, request, multithread=multithread)
        most = self.settings.max_result_bytes
        return AsgiCall(payload, limits, output, send, request, self.runner.state, most)

    def _context(
        self, request_id: str | None, deadline_ns: int, attempt: int | None, *http: Any
    ) -> Context:
        function, revision = self.settings.function, self.settings.revision
        return Context(request_id, function, revision, deadline_ns, attempt or 1, *http)

    async def http(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        """A call whose method, path, query, headers and body are the handler's to read."""
        started_ns = monotonic_ns()
        if not self.gate.admits(scope, headers) or self._is_for_other(headers):
            return await self._turn_away(headers, receive, send)
        if self.draining:
            return await respond(send, worker_draining())
        limit_ms = self._limit_ms(headers)
        limits = limit_ms, started_ns + limit_ms * 1_000_000
        request_id = _printable(headers.get(Header.REQUEST_ID, b""))
        attempt = _number(headers.get(Header.ATTEMPT, b""))
        most = _number(headers.get(Header.PAYLOAD_BYTES, b"")) or self.settings.max_body_bytes
        length = content_length(headers)
        request = request_of(scope, headers)
        http_kind = self._http_kind
        if b"upgrade" in headers:
            # The manager passes no other one on.
            if self.kind is not Kind.ASGI:
                return await respond(send, websocket_unsupported(self.kind), close=True)
            http_kind = WebSocketCall
        headers.clear()
        call = http_kind(
            request, receive, send, self.loop, self._is_closing, limits, CallOutput(request_id)
        )
        if isinstance(call, PayloadHttpCall):
            with self.calls.reading(call) if request.is_held else nullcontext():
                body = await read_body(call.receive, length, most)
            if not isinstance(body, bytes):
                self.calls.note_if_empty()
                return None if body is None else await respond(send, payload_too_large(most))
            if self.draining and not request.is_held:
                return await respond(send, worker_draining())
            if self.kind is not Kind.PAYLOAD:
                call.payload = body.decode(errors="replace")
                call.context = self._context(request_id, limits[1], attempt, request, body)
            else:
                try:
                    call.payload = body.decode()
                except UnicodeDecodeError:
                    self.calls.note_if_empty()
                    return await respond(send, payload_not_text())
            del body
        elif isinstance(call, AsgiHttpCall):
            call.state = self.runner.state
        elif isinstance(call, WebSocketCall):
            call.state = self.runner.state
            call.most_bytes = most
            call.take_over = scope["state"][CONNECTION].take_over
            call.on_overstayed = self._end_told
        elif isinstance(call, WsgiHttpCall):
            call.multithread = self.settings.concurrency > 1
        return await self._serve(call, scope, started_ns)

    def _is_closing(self) -> bool:
        return self.closing

    def close_web_sockets(self) -> None:
        """Their clients come again, and get to another runner."""
        for call in list(self.calls.running):
            if isinstance(call, WebSocketCall):
                call.close(Code.RESTARTING, "The worker is leaving.")

    def _limit_ms(self, headers: dict[bytes, bytes]) -> int:
        asked = _number(headers.get(Header.TIMEOUT_MS, b""))
        limit = self.settings.timeout_ms
        return limit if asked is None else min(limit, asked)

    async def _serve(self, call: Call, scope: Scope, started_ns: int) -> None:
        self.runner.on_start()
        seconds = (call.deadline_ns - monotonic_ns()) / 1e9 + _GRACE_SECONDS
        call.timer = self.loop.call_later(max(seconds, 0), self._expire, call)
        scope["faas.on_disconnect"] = lambda: self._abandon(call)
        try:
            if self.calls.enter(call) or await self._wait_turn(call):
                answer = await self._answer(call, started_ns)
                if call.settled:
                    await asyncio.sleep(0)  # see _wait_turn
                elif answer is not None:
                    call.settled = True
                    if answer.is_good:
                        self.heartbeat.good += 1
                    await respond(call.send, answer, close=self.closing)
                elif call.is_complete:
                    self.heartbeat.good += 1
        finally:
            call.timer.cancel()
            # Or the connection would keep the payload until its next request.
            scope.pop("faas.on_disconnect", None)

    async def _answer(self, call: Call, started_ns: int) -> Answer | None:
        try:
            if self.is_damaged:
                return worker_draining()
            answer = await self.invoker.answer(call)
            forked = self.runner.forks.concern(started_ns)
            self.runner.after_call(started_ns, await self.runner.after_forks() if forked else None)
            return answer
        except BaseException:
            # What answers are made with is broken.
            self.runner.retire(Reason.DAMAGED)
            raise
        finally:
            call.output.finish(self.runner.streams.pipes, tells_end=self.settings.is_called_once)
            self.calls.leave(call)

    async def health(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        is_admitted = self.gate.admits(scope, headers)
        if not is_admitted and not may_look(headers):
            return await self.gate.turn_away(receive, send)
        worker = self.details() if is_admitted else None
        return await respond(send, health_answer(200, "ok", worker), close=self.closing)

    def details(self) -> dict[str, Any]:
        last_exit = None
        with suppress(ValueError):
            last_exit = json.loads(self.runner.notice.last_exit or b"null")
        return {"runner": self.runner.number, "last_exit": last_exit}

    async def _wait_turn(self, call: Call) -> bool:
        task = asyncio.current_task()
        call.cancel = task.cancel if task else None
        try:
            await self.calls.enter_in_turn(call)
        except asyncio.CancelledError:
            # Only its deadline or its caller ends a call that waits. The refusal is written by
            # another task: a request that ends before it would be answered with 500.
            await asyncio.sleep(0)
            return False
        finally:
            call.cancel = None
        if call.settled:
            self.calls.leave(call)
        return not call.settled

    def _expire(self, call: Call) -> None:
        if isinstance(call, WebSocketCall) and call.close(Code.GOING_AWAY, "The time is over."):
            call.deadline_ns += _CLOSING_NS
            call.timer = self.loop.call_later(_CLOSING_NS / 1e9, self._expire, call)
            self.calls.refresh()
            return None
        waited_ns = call.take_waited_ns()
        if waited_ns > 0:
            # The time of its reader is not its own.
            call.deadline_ns = monotonic_ns() + waited_ns
            call.timer = self.loop.call_later(waited_ns / 1e9 + _GRACE_SECONDS, self._expire, call)
            self.calls.refresh()
            return None
        call.overdue = True
        is_thread = call.cancel is None
        if not call.settled:
            call.settled = True
            # A thread can't be stopped: this runner is about to go.
            self._start(respond(call.send, handler_timeout(call.limit_ms, close=is_thread)))
        if is_thread:
            return self._check_ended(call)
        # After the answer has been written: a task that ends before would be answered with 500.
        self.loop.call_soon(self._cancel, call)
        call.timer = self.loop.call_later(_CANCEL_SECONDS, self._check_ended, call)
        return None

    def _cancel(self, call: Call) -> None:
        """A thread can't be stopped."""
        if call.cancel is not None:
            call.cancel()

    def _check_ended(self, call: Call) -> None:
        if call in self.calls.running:
            self.runner.on_stuck(call)

    def _abandon(self, call: Call) -> None:
        """The caller hung up: a coroutine ends now, a thread has until its limit."""
        if not (isinstance(call, WebSocketCall) and call.lost()):
            self._end_call(call)

    def _end_call(self, call: Call) -> None:
        if call.settled:
            return
        call.settled = True
        seconds = _ENDING_SECONDS if call.cancel is None else _CANCEL_SECONDS
        self._cancel(call)
        self.loop.call_later(seconds, self._leave_alone, call)

    def _end_told(self, call: Call) -> None:
        if call in self.calls.running:
            self._end_call(call)

    def _leave_alone(self, call: Call) -> None:
        if call in self.calls.running and not call.overdue:
            self.runner.on_abandoned(call)

    def _start(self, answer: Any) -> None:
        task = self.loop.create_task(answer)
        self.background.add(task)
        task.add_done_callback(self.background.discard)


def health_answer(status: int, name: str, worker: dict[str, Any] | None) -> Answer:
    """`worker`: for a manager only."""
    document: dict[str, Any] = {"status": name, "timestamp": datetime.now(UTC).isoformat()}
    if worker is not None:
        document["worker"] = {"protocol": PROTOCOL} | worker
    return Answer(status, json.dumps(document).encode())


_HTTP_KINDS: dict[Kind, type[HttpCall]] = {
    Kind.PAYLOAD: PayloadHttpCall,
    Kind.CONTEXT: PayloadHttpCall,
    Kind.ASGI: AsgiHttpCall,
    Kind.WSGI: WsgiHttpCall,
    Kind.LAMBDA: LambdaHttpCall,
    Kind.OPENFAAS: OpenFaasHttpCall,
}
#: `execute` of these.
_CONTEXT_KINDS: dict[Kind, type[ContextCall]] = {
    Kind.CONTEXT: ContextCall,
    Kind.LAMBDA: LambdaCall,
    Kind.OPENFAAS: OpenFaasCall,
}


def _number(value: bytes) -> int | None:
    return int(value) if value.isdigit() and len(value) < 16 else None


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
