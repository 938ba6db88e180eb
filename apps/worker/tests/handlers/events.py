"""Handlers of CloudEvents."""

from __future__ import annotations

from typing import Any


def shown(payload: str, context: Any) -> Any:
    event = context.event
    if event is None:
        return None
    data = event.data
    return {"attributes": event, "data": [type(data).__name__, repr(data)], "body": payload}


class Replying:
    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        event = scope["event"]
        message = await receive()
        body = f"{event['id']} {event.data['n']} {len(message['body'])}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def new() -> Replying:
    return Replying()
