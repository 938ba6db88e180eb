"""HTTP calls: the request as handlers see it, and the way of their answers."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic_ns
from typing import Any, Protocol

from ..protocol import HTTP_PREFIX, Header
from .calls import Call, Send
from .exchange import NO_BODY, RESET_CONTENT, Receive, Scope, cycle_of
from .failures import cut, describe
from .results import Answer, Reply, event_invalid, response_invalid
from .streams import CallOutput
from .uvicorn_parts import STATUS_LINE

#: As many servers and proxies take.
MOST_HEADERS = 128
MOST_HEADER_BYTES = 16 * 1024
# Those of one connection, of framing, and the manager's own: a handler has no say in them.
_DROPPED = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OWN = b"x-faas-"
# Browsers alone send these; under their own names they would tell that a page calls the worker.
_RENAMED = b"x-faas-header-"
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# An address of IPv6 stands in brackets.
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?")
_GO_ON = b"HTTP/1.1 102 Processing\r\n\r\n"
_COPIED_BYTES = 64 * 1024

Headers = Iterable[tuple[bytes, bytes]]


class AnswerInvalid(ValueError):  # noqa: N818 - named for what it says
    """What a handler answers is no answer of HTTP, or is out of bounds."""


class EventInvalid(ValueError):  # noqa: N818 - named for what it says
    """What says that it is a CloudEvent is none."""

    def __init__(self, attribute: str, message: str) -> None:
        super().__init__(message)
        self.attribute = attribute


class Disconnected(OSError):  # noqa: N818 - named for what it says
    """Nobody waits for the answer any more."""


@dataclass(slots=True)
class Request:
    method: str
    #: What stands before the path: where the function is mounted.
    root: str
    #: Below the root.
    path: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    #: The sender has only begun with the body, and goes on when it is read.
    is_held: bool = False

    @property
    def scheme(self) -> str:
        """Of the client, before all proxies."""
        told = (self.first(b"x-forwarded-proto") or "").partition(",")[0].strip()
        return "https" if told == "https" else "http"

    @property
    def server(self) -> tuple[str, int]:
        """Host and port as the client names them, who may name anything."""
        told = self.first(b"host") or "localhost"
        found = _AUTHORITY.fullmatch(told)
        host, port = found.groups() if found else (told, None)
        return host, int(port) if port else 443 if self.scheme == "https" else 80

    def first(self, name: bytes) -> str | None:
        for found, value in self.headers:
            if found == name:
                return value.decode("latin-1")
        return None

    def joined(self, name: bytes) -> str:
        """Of all lines."""
        return b",".join(value for found, value in self.headers if found == name).decode("latin-1")


def request_of(scope: Scope, headers: dict[bytes, bytes]) -> Request:
    kept = []
    for header in scope["headers"]:
        name = header[0]
        if not name.startswith(_OWN):
            if name != b"connection":
                kept.append(header)
        elif name.startswith(_RENAMED):
            kept.append((name[len(_RENAMED) :], header[1]))
    return Request(
        method=scope["method"],
        root=headers.get(Header.ROOT, b"").decode("latin-1"),
        path=scope["path"][len(HTTP_PREFIX) :],
        raw_path=scope["raw_path"][len(HTTP_PREFIX) :],
        query=scope["query_string"],
        headers=kept,
        is_held=Header.HOLD in headers,
    )


def posted(payload: str, request_id: str | None) -> Request:
    """What `execute` means to a web application."""
    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(payload.encode())),
    ]
    if request_id is not None:
        headers.append((b"x-request-id", request_id.encode("latin-1", "replace")))
    return Request("POST", "", "/", b"/", b"", headers)


class Writer(Protocol):
    """Where an answer goes."""

    begun: bool
    complete: bool
    #: What was wrong with what the handler has answered.
    fault: AnswerInvalid | None

    def begin(self, status: Any, headers: Headers) -> None: ...

    async def write(self, body: bytes, *, more: bool) -> None: ...


def encoded_head(status: Any, headers: Headers) -> tuple[bytes, int | None]:
    """The lines of the headers but for those that are dropped, and the length that they announce.
    Raises AnswerInvalid."""
    if type(status) is not int or not 200 <= status <= 599:
        raise AnswerInvalid(
            f"its status must be a whole number from 200 to 599, not {status!r:.40}"
        )
    lines: list[bytes] = []
    length: int | None = None
    count = size = 0
    for name, value in headers:
        count += 1
        size += len(name) + len(value)
        if count > MOST_HEADERS:
            raise AnswerInvalid(f"it has more than {MOST_HEADERS} headers")
        if size > MOST_HEADER_BYTES:
            raise AnswerInvalid(f"its headers have more than {MOST_HEADER_BYTES} bytes")
        name = _checked_name(bytes(name))
        value = bytes(value).strip(b" \t")
        if _NO_VALUE.search(value):
            raise AnswerInvalid(f"its header {_shown(name)} has a value with control characters")
        if name in _DROPPED or name.startswith(_OWN):
            continue
        if name == b"content-length":
            if not value.isdigit() or len(value) > 15 or length not in (None, int(value)):
                raise AnswerInvalid(f"its Content-Length {_shown(value)} is no length")
            length = int(value)
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines), length


@lru_cache(maxsize=256)
def _checked_name(name: bytes) -> bytes:
    """In lower case. Raises AnswerInvalid. Kept, as most answers use the same few names."""
    name = name.lower()
    if not is_token(name):
        raise AnswerInvalid(f"{_shown(name)} can't be the name of a header")
    return name


def latin_header(name: Any, value: Any) -> tuple[bytes, bytes]:
    """Of texts, or what is shown as one. Raises AnswerInvalid."""
    try:
        return str(name).encode("latin-1"), str(value).encode("latin-1")
    except UnicodeEncodeError:
        shown = cut(ascii(str(name)), 60)
        raise AnswerInvalid(f"its header {shown} has characters beyond Latin-1") from None


def is_token(text: bytes) -> bool:
    return _NAME.fullmatch(text) is not None


def _shown(text: bytes) -> str:
    return repr(cut(text.decode("latin-1"), 60))


def is_bodyless(status: int, method: str) -> bool:
    return method == "HEAD" or status in NO_BODY


def reply(status: Any, headers: Headers, body: bytes, method: str) -> Reply:
    """An answer that is there as a whole. Raises AnswerInvalid."""
    head, length = encoded_head(status, headers)
    if length not in (None, len(body)) and not is_bodyless(status, method):
        raise AnswerInvalid(f"its Content-Length is {length}, and its body has {len(body)} bytes")
    return Reply(status, body, head=head, length=length)


class Wire:
    """Writes one answer to the manager, as fast as that reads it."""

    def __init__(self, send: Send, method: str, closing: Any) -> None:
        self.begun = self.started = self.complete = False
        self.fault: AnswerInvalid | None = None
        #: Nanoseconds in which it waited for the manager to read, which are not the handler's.
        self.waited_ns = 0
        self._waits_since = 0
        self._cycle = cycle_of(send)
        self._method = method
        self._closing = closing
        self._head = b""
        self._left: int | None = None
        self._is_chunked = self._is_bodyless = False
        self._status = 0

    def begin(self, status: Any, headers: Headers) -> None:
        """The head is sent with the first piece of the body. Raises AnswerInvalid."""
        if self.fault is not None:
            raise self.fault
        if self.begun:
            raise RuntimeError("The answer has begun already.")
        try:
            self._head, self._left = encoded_head(status, headers)
        except AnswerInvalid as error:
            self.fault = error
            raise
        self._status = status
        self._is_bodyless = is_bodyless(status, self._method)
        self.begun = True

    async def write(self, body: bytes, *, more: bool) -> None:
        if not self.begun or self.complete:
            raise self.fault or RuntimeError("The answer has not begun, or is complete already.")
        cycle = self._cycle
        if cycle.flow.write_paused:
            self._waits_since = monotonic_ns()
            try:
                await cycle.flow.drain()
            finally:
                self.waited_ns += monotonic_ns() - self._waits_since
                self._waits_since = 0
        elif cycle.transport.is_closing():
            # It is about to hear that nobody is there, which it never would if it only wrote on.
            await asyncio.sleep(0)
        # Another answer, to a call past its time limit, would be followed by the next call's.
        if cycle.disconnected or cycle.response_complete:
            raise Disconnected("Nobody waits for the answer any more.")
        pieces = [] if self.started else [self._first_lines(len(body), more=more)]
        if self._is_bodyless:
            pass
        elif self._is_chunked:
            if body:
                pieces += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                pieces.append(b"0\r\n\r\n")
        else:
            self._count(len(body), more=more)
            pieces.append(body)
        whole = None if len(body) > _COPIED_BYTES else b"".join(pieces)
        self.started = cycle.response_started = True
        cycle.waiting_for_100_continue = False
        if whole is None:
            cycle.transport.writelines(pieces)
        elif whole:
            cycle.transport.write(whole)
        if more:
            return
        self.complete = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def take_waited_ns(self) -> int:
        if self._waits_since:
            now = monotonic_ns()
            self.waited_ns += now - self._waits_since
            self._waits_since = now
        waited, self.waited_ns = self.waited_ns, 0
        return waited

    def _first_lines(self, size: int, *, more: bool) -> bytes:
        cycle = self._cycle
        if self._closing():
            cycle.keep_alive = False
        framing = b""
        if self._status == RESET_CONTENT:
            framing = b"content-length: 0\r\n"
        elif self._left is not None and self._status not in NO_BODY:
            framing = b"content-length: %d\r\n" % self._left
        elif not self._is_bodyless and more:
            self._is_chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        elif not self._is_bodyless:
            self._left = size
            framing = b"content-length: %d\r\n" % size
        return b"%b%b%b%b%b\r\n" % (
            STATUS_LINE[self._status],
            marks(cycle),
            self._head,
            framing,
            b"" if cycle.keep_alive else b"connection: close\r\n",
        )

    def _count(self, size: int, *, more: bool) -> None:
        left = (self._left or 0) - size
        if left < 0 or (left > 0 and not more):
            long = "longer" if left < 0 else "shorter"
            self.fault = AnswerInvalid(f"its body is {long} than its Content-Length says")
            raise self.fault
        self._left = left


def marks(cycle: Any) -> bytes:
    """By which a manager knows that the answer is the handler's."""
    ((name, runner),) = cycle.default_headers
    return b"%b: %b\r\n%b: 1\r\n" % (name, runner, Header.ANSWER)


class Collected:
    """Keeps one answer, for a call that has no use for HTTP."""

    def __init__(self, max_bytes: int) -> None:
        self.begun = self.complete = False
        self.fault: AnswerInvalid | None = None
        self.status = 0
        self.media_type = b""
        self.body = bytearray()
        self._max_bytes = max_bytes

    def begin(self, status: Any, headers: Headers) -> None:
        if self.fault is not None:
            raise self.fault
        if self.begun:
            raise RuntimeError("The answer has begun already.")
        headers = list(headers)
        try:
            encoded_head(status, headers)
        except AnswerInvalid as error:
            self.fault = error
            raise
        self.begun, self.status = True, status
        self.media_type = next((bytes(v) for n, v in headers if n.lower() == b"content-type"), b"")

    async def write(self, body: bytes, *, more: bool) -> None:
        if not self.begun or self.complete:
            raise RuntimeError("The answer has not begun, or is complete already.")
        self.body += body
        if len(self.body) > self._max_bytes:
            raise AnswerInvalid(f"it takes more than {self._max_bytes} bytes")
        self.complete = not more


class ExecutedCall(Call):
    """`execute` of what answers as HTTP does: what is no answer over that is none here, either."""

    def failed(self, error: BaseException, file: str | None) -> Answer | None:
        if isinstance(error, AnswerInvalid):
            return response_invalid(str(error))
        return super().failed(error, file)


class HttpCall(Call):
    """A call whose answer is one of HTTP."""

    #: Makes of what is for an event loop something for the thread of the call, where it has one.
    in_turn: Callable[[Call, AsyncIterator[Any]], Iterator[Any]] | None = None

    def __init__(
        self,
        request: Request,
        receive: Receive,
        send: Send,
        loop: AbstractEventLoop,
        closing: Any,
        limits: tuple[int, int],
        output: CallOutput,
    ) -> None:
        """`limits`: the time limit in milliseconds, and when it passes."""
        super().__init__("", *limits, output, send)
        self.request = request
        self.wire = Wire(send, request.method, closing)
        self._closing = closing
        self.loop = loop
        self._receive = receive
        self._is_held = request.is_held

    def is_for_loop(self, value: Any) -> bool:
        """Whether what the handler has returned gives its items to an event loop alone."""
        return False

    @property
    def is_complete(self) -> bool:
        return self.wire.complete

    def take_waited_ns(self) -> int:
        return self.wire.take_waited_ns()

    async def receive(self) -> Any:
        """The next part of the request's body."""
        if self._is_held:
            self._is_held = False
            cycle = cycle_of(self.send)
            # To its manager an answer that has begun says the same.
            if not (cycle.response_started or cycle.response_complete or cycle.disconnected):
                cycle.transport.write(_GO_ON)
        return await self._receive()

    def failed(self, error: BaseException, file: str | None) -> Answer | None:
        fault = error if isinstance(error, AnswerInvalid) else self.wire.fault
        if fault is not None and not self.wire.started:
            return response_invalid(str(fault))
        if isinstance(error, EventInvalid) and not self.wire.started:
            return event_invalid(error.attribute, str(error))
        if self.wire.started:
            # The answer can only be broken off: nobody else would hear why.
            print(describe(error, file).traceback, end="", file=sys.stderr)
        return super().failed(error, file)

    def put(self, body: bytes, *, more: bool) -> None:
        """Writes a part of the answer, from a thread."""
        writing = asyncio.run_coroutine_threadsafe(self.wire.write(body, more=more), self.loop)
        writing.result()
