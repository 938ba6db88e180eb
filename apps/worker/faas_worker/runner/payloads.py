"""HTTP calls of handlers that take a payload, and what those get to know of a call."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from time import monotonic_ns
from typing import Any
from urllib.parse import parse_qsl

from .calls import Call
from .events import Event, event_of, is_event
from .http import Headers, HttpCall, Request, latin_header, reply
from .results import Answer, json_in, result_answer, result_answer_on_loop
from .streams import CallOutput

TEXT = b"text/plain; charset=utf-8"
BYTES = b"application/octet-stream"
JSON = b"application/json"
JSON_LINES = b"application/x-ndjson"


class Values(dict[str, str]):
    """By name, of which the last one counts; `all` has the others, too."""

    def __init__(self, pairs: Iterable[tuple[str, str]], *, ignores_case: bool = False) -> None:
        self._fold = str.lower if ignores_case else str
        self._all: dict[str, list[str]] = {}
        for name, value in pairs:
            self._all.setdefault(self._fold(name), []).append(value)
        super().__init__({name: values[-1] for name, values in self._all.items()})

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(self._fold(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(self._fold(name))

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(self._fold(name), default)

    def all(self, name: str) -> list[str]:
        return [*self._all.get(self._fold(name), ())]


class Context:
    """What a handler may know of its call."""

    def __init__(
        self,
        request_id: str | None,
        function: str | None,
        revision: int | None,
        deadline_ns: int,
        attempt: int = 1,
        request: Request | None = None,
        body: bytes | None = None,
    ) -> None:
        self.request_id = request_id
        self.function = function
        self.revision = revision
        self.attempt = attempt
        self.method = request and request.method
        self.path = request and request.path
        self.query_string = request and request.query.decode("latin-1")
        self.query = request and _query_of(request)
        self.headers = request and _headers_of(request)
        self.body = body
        self._request = request
        self._deadline_ns = deadline_ns

    @cached_property
    def event(self) -> Event | None:
        """The CloudEvent that the call is; None: it is none. Raises EventInvalid."""
        request = self._request
        if request is None or not is_event(request.headers):
            return None
        return event_of(request.headers, self.body or b"")

    @property
    def deadline(self) -> datetime:
        return datetime.now(UTC) + timedelta(milliseconds=self._left_ms())

    def remaining_ms(self) -> int:
        """Until the time limit of the call."""
        return max(0, int(self._left_ms()))

    def _left_ms(self) -> float:
        return (self._deadline_ns - monotonic_ns()) / 1e6


def _query_of(request: Request) -> Values:
    text = request.query.decode("latin-1")
    return Values(parse_qsl(text, keep_blank_values=True))


def _headers_of(request: Request) -> Values:
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
    return Values(pairs, ignores_case=True)


class ContextCall(Call):
    """`execute` of a handler that takes a context as well."""

    def __init__(
        self, payload: str, limits: tuple[int, int], output: CallOutput, send: Any, context: Context
    ) -> None:
        super().__init__(payload, *limits, output, send)
        self.context = context

    def start(self, function: Any) -> Any:
        return function(self.payload, self.context)


class PayloadHttpCall(HttpCall):
    #: Only of a handler that takes one.
    context: Context | None = None

    def start(self, function: Any) -> Any:
        if self.context is not None:
            return function(self.payload, self.context)
        return function(self.payload)

    def answer(self, value: Any, max_bytes: int) -> Answer | None:
        status, headers, body = self.parts(value)
        if isinstance(body, AsyncIterator) and self.in_turn is not None:
            body = self.in_turn(self, body)
        if isinstance(body, Iterator):
            return self._stream(status, headers, body, max_bytes)
        found = _content_of(body)
        if found is None:
            found = _json_of(result_answer(body, max_bytes))
        return self._reply(status, headers, found)

    async def answer_on_loop(self, value: Any, max_bytes: int) -> Answer | None:
        status, headers, body = self.parts(value)
        if isinstance(body, (Iterator, AsyncIterator)):
            return await self._stream_on_loop(status, headers, body, max_bytes)
        found = _content_of(body)
        if found is None:
            found = _json_of(await result_answer_on_loop(body, max_bytes))
        return self._reply(status, headers, found)

    def is_for_loop(self, value: Any) -> bool:
        return isinstance(value.body if is_response(value) else value, AsyncIterator)

    def parts(self, value: Any) -> tuple[Any, list[tuple[bytes, bytes]], Any]:
        """Status, headers and body of what the handler has returned."""
        return _parts_of(value)

    def _reply(self, status: Any, headers: Headers, found: Any) -> Answer:
        if isinstance(found, Answer):
            return found
        content, media_type = found
        return reply(status, _typed(headers, media_type), content, self.request.method)

    def _stream(
        self, status: Any, headers: Headers, items: Iterator[Any], max_bytes: int
    ) -> Answer | None:
        try:
            for item in items:
                found = _piece_of(item, lambda value: result_answer(value, max_bytes))
                if isinstance(found, Answer):
                    return found
                self._begin(status, headers, found[1])
                self.put(found[0], more=True)
            self._begin(status, headers, BYTES)
            self.put(b"", more=False)
        finally:
            _close(items)
        return None

    async def _stream_on_loop(
        self, status: Any, headers: Headers, items: Any, max_bytes: int
    ) -> Answer | None:
        try:
            async for item in items if isinstance(items, AsyncIterator) else _in_turns(items):
                found = _piece_of(item, lambda value: result_answer(value, max_bytes))
                if isinstance(found, Answer):
                    return found
                self._begin(status, headers, found[1])
                await self.wire.write(found[0], more=True)
            self._begin(status, headers, BYTES)
            await self.wire.write(b"", more=False)
        finally:
            if isinstance(items, AsyncIterator):
                await getattr(items, "aclose", _nothing)()
            else:
                _close(items)
        return None

    def _begin(self, status: Any, headers: Headers, media_type: bytes) -> None:
        if not self.wire.begun:
            self.wire.begin(status, _typed(headers, media_type))


def is_response(value: Any) -> bool:
    return getattr(type(value), "faas_response", None) is True


def _parts_of(value: Any) -> tuple[Any, list[tuple[bytes, bytes]], Any]:
    if not is_response(value):
        return 200, [], value
    # Of a Response None is no body; on its own it is JSON's null.
    body = b"" if value.body is None else value.body
    return value.status, _encoded(value.headers), body


def _encoded(headers: Any) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [latin_header(name, value) for name, value in pairs]


def _typed(headers: Headers, media_type: bytes | None) -> Headers:
    headers = list(headers)
    if media_type is None or any(name.lower() == b"content-type" for name, _ in headers):
        return headers
    return [(b"content-type", media_type), *headers]


def _content_of(value: Any) -> tuple[bytes, bytes | None] | None:
    """None of what is JSON."""
    if isinstance(value, str):
        return str.encode(value, "utf-8"), TEXT
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), BYTES if len(value) else None
    return None


def _json_of(answer: Answer) -> tuple[bytes, bytes] | Answer:
    return (json_in(answer), JSON) if answer.status == 200 else answer


def _piece_of(item: Any, encode: Any) -> tuple[bytes, bytes] | Answer:
    found = _content_of(item)
    if found is not None:
        return found[0], found[1] or BYTES
    answer = encode(item)
    return (json_in(answer) + b"\n", JSON_LINES) if answer.status == 200 else answer


def _close(items: Any) -> None:
    close = getattr(items, "close", None)
    if close is not None:
        close()


async def _in_turns(items: Iterator[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item
        await sleep(0)


async def _nothing() -> None:
    pass
