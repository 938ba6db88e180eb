"""WebSockets of ASGI applications."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from .asgi import scope_of
from .exchange import cycle_of
from .failures import describe
from .frames import Code, FrameReader, Opcode, Violation, close_frame, code_in, head_of, is_sendable
from .http import AnswerInvalid, Disconnected, HttpCall, encoded_head, is_token, marks
from .results import Answer

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Beyond as much that the application has not received yet, no more is read; each message counts as
# this many bytes more.
_KEPT_BYTES = 64 * 1024
_MESSAGE_BYTES = 256
_COPIED_BYTES = 64 * 1024
# How long an application may go on whose client has left, since it last received something.
_TOLD_SECONDS = 1.0
# How long a client may take to answer that it is closed.
_LINGER_SECONDS = 2.0


class WebSocketCall(HttpCall):
    """A call for as long as its connection is open. Ends when the application returns."""

    state: dict[str, Any]
    #: The largest message of a client.
    most_bytes = 0
    #: Gives the connection to whoever takes what arrives from now on.
    take_over: Callable[[Callable[[bytes], None]], None]
    #: Ends an application that goes on though it was told that its client has left.
    on_overstayed: Callable[[WebSocketCall], None]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._cycle = cycle_of(self.send)
        # Nothing can follow it on this connection, whatever is answered.
        self._cycle.keep_alive = False
        self._is_connected = self._is_open = self._has_closed = self._is_told = False
        #: Why it is over, as the application is told.
        self._over: tuple[int, str] | None = None
        #: Ends the application.
        self._patience: asyncio.TimerHandle | None = None
        self._frames: FrameReader | None = None
        self._messages: deque[tuple[int, dict[str, Any]]] = deque()
        self._kept = 0
        #: Since it has last waited.
        self._sent = 0
        self._arrival = asyncio.Event()

    def start(self, function: Any) -> Any:
        scope = scope_of(self.request, self.state)
        del scope["method"]
        offered = self.request.joined(b"sec-websocket-protocol").split(",")
        scope |= {
            "type": "websocket",
            "scheme": "wss" if self.request.scheme == "https" else "ws",
            "subprotocols": [name.strip() for name in offered if name.strip()],
            "extensions": {"websocket.http.response": {}},
        }
        return function(scope, self.receive, self.send_message)

    # The application

    async def receive(self) -> Any:
        if not self._is_connected:
            self._is_connected = True
            return {"type": "websocket.connect"}
        while not self._messages:
            if self._over is not None:
                if not self._is_told:
                    self._is_told = True
                    self._wait_for_end()
                code, reason = self._over
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._arrival.clear()
            await self._arrival.wait()
        if self._over is not None:
            self._wait_for_end()
        size, message = self._messages.popleft()
        self._kept -= size
        if self._kept <= _KEPT_BYTES and not self._cycle.transport.is_closing():
            self._cycle.flow.resume_reading()
        return message

    async def send_message(self, message: Any) -> None:
        kind = message["type"]
        if kind.startswith("websocket.http.response.") and not self._is_open:
            if kind.endswith("start"):
                self.wire.begin(message["status"], message.get("headers", ()))
            else:
                more = bool(message.get("more_body", False))
                await self.wire.write(bytes(message.get("body", b"")), more=more)
        elif kind == "websocket.accept" and not self._is_open and not self.wire.begun:
            self._accept(message.get("subprotocol"), message.get("headers", ()))
        elif kind == "websocket.close" and not self._is_open and not self.wire.begun:
            self.wire.begin(403, ())
            await self.wire.write(b"", more=False)
        elif kind == "websocket.close" and self._is_open:
            code = message.get("code")
            self._close(int(code or Code.NORMAL), str(message.get("reason") or ""))
        elif kind == "websocket.send" and self._is_open:
            data = message.get("bytes")
            if data is None:
                await self._send(Opcode.TEXT, message["text"].encode())
            else:
                await self._send(Opcode.BINARY, bytes(data))
        else:
            raise RuntimeError(f"An application can't send {kind!r:.60} here.")

    async def answer_on_loop(self, value: Any, max_bytes: int) -> Answer | None:
        if self.wire.fault is not None:
            raise self.wire.fault
        if self._is_open:
            self._close(Code.NORMAL, "")
            self._settle(is_good=True)
        elif not self.wire.complete:
            raise RuntimeError("The application returned before it had accepted the WebSocket.")
        return None

    def failed(self, error: BaseException, file: str | None) -> Answer | None:
        if not self._is_open:
            return super().failed(error, file)
        # Of one whose client has left that is the usual end.
        is_usual = isinstance(error, Disconnected) and self._over is not None
        if not is_usual:
            print(describe(error, file).traceback, end="", file=sys.stderr)
        self._close(Code.FAILED, "The application failed.")
        self._settle(is_good=is_usual)
        return None

    def _settle(self, *, is_good: bool) -> None:
        """Nothing more is to be answered."""
        self._cycle.response_complete = True
        self.wire.complete = is_good
        if self._patience is not None:
            self._patience.cancel()

    # The connection

    def _accept(self, subprotocol: Any, headers: Any) -> None:
        cycle = self._cycle
        if cycle.disconnected or self._over is not None:
            raise Disconnected("Its client has left.")
        own = b"sec-websocket-"
        others = [(name, value) for name, value in headers if not name.lower().startswith(own)]
        try:
            lines, _ = encoded_head(200, others)
            if subprotocol is not None and not is_token(subprotocol.encode("latin-1", "replace")):
                raise AnswerInvalid("its subprotocol is no name")
        except AnswerInvalid as error:
            self.wire.fault = error
            raise
        if subprotocol is not None:
            lines += b"sec-websocket-protocol: %b\r\n" % subprotocol.encode()
        key = (self.request.first(b"sec-websocket-key") or "").encode("latin-1")
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        self._is_open = self.wire.begun = self.wire.started = cycle.response_started = True
        self._frames = FrameReader(self.most_bytes)
        self.take_over(self._received)
        cycle.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-accept: %b\r\n%b%b\r\n" % (accept, marks(cycle), lines)
        )
        if self._closing():
            self.close(Code.RESTARTING, "The worker is leaving.")

    async def _send(self, opcode: Opcode, payload: bytes) -> None:
        flow, transport = self._cycle.flow, self._cycle.transport
        self._sent += len(payload) + _MESSAGE_BYTES
        if flow.write_paused:
            await flow.drain()
        elif self._sent > _KEPT_BYTES or transport.is_closing():
            # Others get their turn, and who has lost its client hears of it.
            await asyncio.sleep(0)
            self._sent = 0
        if transport.is_closing() or self._over is not None or self._has_closed:
            raise Disconnected("The WebSocket is closed.")
        head = head_of(opcode, len(payload))
        if len(payload) > _COPIED_BYTES:
            transport.writelines((head, payload))
        else:
            transport.write(head + payload)

    def _received(self, data: bytes) -> None:
        transport = self._cycle.transport
        if self._frames is None:
            return
        try:
            for opcode, payload in self._frames.feed(data):
                if opcode is Opcode.CLOSE:
                    self._end(*code_in(payload))
                    transport.close()
                    return
                if self._over is None:
                    self._take(opcode, payload)
        except Violation as error:
            self._end(error.code, error.reason)
            # What follows means nothing.
            self._frames = None
        except UnicodeDecodeError:
            self._end(Code.NOT_TEXT, "a message that is no text")
        if self._kept > _KEPT_BYTES and not transport.is_closing():
            self._cycle.flow.pause_reading()

    def _take(self, opcode: Opcode, payload: bytes) -> None:
        if opcode is Opcode.PING:
            # Who reads nothing gets no answer, which would be kept for it.
            if not (self._cycle.flow.write_paused or self._has_closed):
                self._cycle.transport.write(head_of(Opcode.PONG, len(payload)) + payload)
        elif opcode is not Opcode.PONG and not self._cycle.response_complete:
            key, value = ("text", payload.decode()) if opcode is Opcode.TEXT else ("bytes", payload)
            size = len(payload) + _MESSAGE_BYTES
            self._kept += size
            self._messages.append((size, {"type": "websocket.receive", key: value}))
            self._arrival.set()

    def _end(self, code: int, reason: str) -> None:
        """Closes, and tells the application so."""
        self._close(code, reason)
        self._tell(code, reason)

    def _close(self, code: int, reason: str) -> None:
        if self._has_closed:
            return
        self._has_closed = True
        transport = self._cycle.transport
        if transport.is_closing():
            return
        is_known = code == Code.NONE or is_sendable(code)
        transport.write(close_frame(code if is_known else Code.FAILED, reason))
        self._linger(None)

    def _linger(self, unsent: int | None) -> None:
        """Hangs up when all has been sent for a while, at the latest at the time limit."""
        transport = self._cycle.transport
        if unsent == 0 or (unsent is not None and monotonic_ns() > self.deadline_ns):
            transport.abort()
            return
        unsent = transport.get_write_buffer_size()
        self.loop.call_later(_LINGER_SECONDS, self._linger, unsent)

    def _tell(self, code: int, reason: str) -> None:
        if self._over is not None:
            return
        self._over = code, reason
        self._arrival.set()
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(_TOLD_SECONDS, self.on_overstayed, self)

    # The worker

    def close(self, code: Code, reason: str) -> bool:
        """False where it isn't open, or is closed already."""
        if not self._is_open or self._over is not None:
            return False
        self._end(code, reason)
        return True

    def lost(self) -> bool:
        """Its connection has. False: there is no application to be told."""
        if not self._is_open:
            return False
        self._has_closed = True
        self._tell(Code.LOST, "")
        return True
