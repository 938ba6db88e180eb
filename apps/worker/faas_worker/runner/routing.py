"""What FastAPI's router says to whoever asks for anything but the two routes that a manager calls.

It is imported when it is first needed: that takes longer than all else a worker begins with.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.routing import Route

from .app import Endpoint
from .calls import Send
from .exchange import Receive, Scope


def router_around(execute: Endpoint, health: Endpoint) -> FastAPI:
    """Knows the two routes as well: another method is refused there (405), not unknown (404)."""
    app = FastAPI(title="service-faas worker", docs_url=None, redoc_url=None, openapi_url=None)
    app.router.routes.append(Route("/", _Application(execute), methods=["POST"]))
    app.router.routes.append(Route("/health", _Application(health), methods=["GET"]))
    return app


class _Application:
    """An ASGI application, as the router wants it: an object, not a function."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(scope, receive, send)
