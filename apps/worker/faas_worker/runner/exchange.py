"""Requests as they are read and answers as they are sent, whatever they are about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from .calls import Send
from .results import Answer, refused

# How long the rest of a request is read that is refused whatever comes.
_REST_SECONDS = 1.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]


async def respond(send: Send, answer: Answer, *, close: bool = False) -> None:
    body = answer.body
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if answer.close or close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


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
