"""uvicorn's HTTP protocol on a listening socket that several processes share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from ..protocol import BACKLOG, Header
from .uvicorn_parts import Config, HttpToolsProtocol, ServerState, forget_uvicorn

# Where a request's state has the connection that it came over.
CONNECTION = "faas.connection"
# A manager sends its request with its connection, at the latest once it has asked its engine.
_UNKNOWN_SECONDS = 10.0
# Beyond as many, the one that has been silent for longest ends: a manager's speaks at once. More
# than the largest concurrency, since all connections of a rush may come before the first is read.
_MOST_UNKNOWN = 1024
# After a handler has held up the loop, what has arrived meanwhile is read first.
_READ_FIRST_SECONDS = 0.1
# The manager closes idle sockets; closing them here would race with its next request.
_KEEP_ALIVE_SECONDS = 3600


class _State(ServerState):
    def __init__(self) -> None:
        self.total_requests = 0
        self.connections: set[Any] = set()
        self.tasks = set()
        self.default_headers = []
        #: Connections over which nobody has shown yet that they may call, the oldest first.
        self.unknown: dict[_Protocol, None] = {}
        #: What each request's task gets a copy of.
        self.context = Context()


class _Protocol(HttpToolsProtocol):
    """Ends by itself unless a request over it shows soon that its sender may call."""

    def __init__(self, config: Config, state: _State, *, is_own: bool = False) -> None:
        super().__init__(config, state, {CONNECTION: self})
        self.state = state
        #: A request that the worker makes of itself: nobody else can.
        self.is_own = is_own
        self.unknown: asyncio.TimerHandle | None = None
        #: Gets what arrives, once the connection is none of HTTP any more.
        self.taker: Callable[[bytes], None] | None = None

    def data_received(self, data: bytes) -> None:
        if self.taker is None:
            super().data_received(data)
        else:
            self.taker(data)

    def take_over(self, taker: Callable[[bytes], None]) -> None:
        self.taker = taker

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.is_own:
            return
        unknown = self.state.unknown
        if len(unknown) >= _MOST_UNKNOWN:
            oldest = next(iter(unknown))
            oldest.keep()
            oldest.transport.abort()
        unknown[self] = None
        self.unknown = self.loop.call_later(_UNKNOWN_SECONDS, self._overdue)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # A pipelined request's is called in the context of the request before it.
        self.state.context.run(super()._start_asgi_task, cycle, app)

    def keep(self) -> None:
        if self.unknown is not None:
            self.unknown.cancel()
            self.unknown = None
            self.state.unknown.pop(self, None)

    def _overdue(self) -> None:
        self.unknown = self.loop.call_later(_READ_FIRST_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.keep()
        self.app_state = {}
        self.taker = None
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            on_disconnect: Any = cycle.scope.get("faas.on_disconnect")
            if on_disconnect is not None:
                on_disconnect()


class Server:
    def __init__(self, app: Any, sock: socket.socket, runner: int) -> None:
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        self._socket = sock
        self._config = Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            headers=[(Header.RUNNER, str(runner))],
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            interface="asgi3",
        )
        self._config.load()
        forget_uvicorn()
        self._state = _State()
        self._state.default_headers = self._config.encoded_headers
        self._server: asyncio.Server | None = None
        self._accepting = set[asyncio.Task[Any]]()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._state.context = copy_context()
        self._server = await loop.create_server(self.connect, sock=self._socket, backlog=BACKLOG)

    def connect(self) -> _Protocol:
        return _Protocol(self._config, self._state)

    def connect_itself(self) -> _Protocol:
        """For a request that the worker makes of itself, and lets in without a token."""
        return _Protocol(self._config, self._state, is_own=True)

    def accept_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Who has connected by now would be cut off when the socket is shut down."""
        # Handlers may have put something of their own in the place of sockets.
        with contextlib.suppress(Exception):
            for _ in range(BACKLOG):
                accepted, _ = self._socket.accept()
                serving = loop.connect_accepted_socket(self.connect, accepted)
                task = loop.create_task(serving)
                self._accepting.add(task)
                task.add_done_callback(self._accepting.discard)

    def stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def close_idle_connections(self) -> None:
        """Those with a call in flight are told `Connection: close` with its answer. The first
        request of a new one may be on its way."""
        for connection in list(self._state.connections):
            if connection.cycle is not None:
                connection.shutdown()

    def descriptors(self) -> list[int]:
        """What a copy of this process must not answer on."""
        found = [self._socket.fileno()]
        for connection in list(self._state.connections):
            sock = connection.transport.get_extra_info("socket")
            if sock is not None:
                found.append(sock.fileno())
        return [fd for fd in found if fd >= 0]

    @property
    def connections(self) -> int:
        return len(self._state.connections) + len(self._accepting)
