"""Requests as they are read and answers as they are sent, whatever they are about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from ..protocol import Header
from .calls import Send
from .results import Answer, Reply, refused
from .uvicorn_parts import STATUS_LINE

# How long the rest of a request is read that is refused whatever comes.
_REST_SECONDS = 1.0
# One piece is written faster than two, but a large one is not copied for it.
_COPIED_BYTES = 64 * 1024

#: No body may follow these (RFC 9110, 6.4.1).
NO_BODY = frozenset({204, 205, 304})
#: The one of them that has to say so (RFC 9110, 15.3.6).
RESET_CONTENT = 205

Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]


def cycle_of(send: Any) -> Any:
    """What uvicorn knows of the request that is answered by this."""
    return send.__self__


async def respond(send: Send, answer: Answer, *, close: bool = False) -> None:
    """In one write, without uvicorn's own look at headers that are known to be right."""
    cycle = cycle_of(send)
    if cycle.flow.write_paused:
        await cycle.flow.drain()
    if cycle.disconnected or cycle.response_complete:
        return
    if cycle.response_started:
        # What has begun can only be broken off.
        hang_up(send)
        return
    if answer.close or close:
        cycle.keep_alive = False
    ((name, runner),) = cycle.default_headers
    is_head = cycle.scope["method"] == "HEAD"
    if isinstance(answer, Reply):
        lines = b"%b: 1\r\n%b%b" % (Header.ANSWER, answer.head, _length_of(answer))
    else:
        lines = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(answer.body)
        if is_head and answer.code:
            lines += b"%b: %b\r\n" % (Header.ERROR, answer.code.encode())
    if not cycle.keep_alive:
        lines += b"connection: close\r\n"
    head = b"%b%b%b: %b\r\n\r\n" % (STATUS_LINE[answer.status], lines, name, runner)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    if is_head or answer.status in NO_BODY:
        cycle.transport.write(head)
    elif len(answer.body) > _COPIED_BYTES:
        cycle.transport.writelines((head, answer.body))
    else:
        cycle.transport.write(head + answer.body)
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


def _length_of(answer: Reply) -> bytes:
    if answer.status == RESET_CONTENT:
        return b"content-length: 0\r\n"
    if answer.status in NO_BODY:
        return b""
    length = len(answer.body) if answer.length is None else answer.length
    return b"content-length: %d\r\n" % length


def hang_up(send: Any) -> None:
    """Ends the connection of a request instead of an answer."""
    cycle = cycle_of(send)
    cycle.disconnected = True
    cycle.transport.abort()


def content_length(headers: Mapping[bytes, bytes]) -> int:
    """In bytes, as the request tells it; 0 where it doesn't."""
    value = headers.get(b"content-length", b"")
    if not value.isdigit():
        return 0
    return int(value) if len(value) < 16 else 2**63


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


async def read_rest(receive: Receive) -> None:
    """Of a request that is refused: closing early would reset the caller's socket before it has
    read the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_REST_SECONDS):
            while (await receive()).get("more_body"):
                pass
