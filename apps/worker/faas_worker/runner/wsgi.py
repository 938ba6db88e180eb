"""Calls of WSGI applications (PEP 3333). They run in threads."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from .http import AnswerInvalid, Collected, ExecutedCall, Headers, HttpCall, Request, reply
from .results import Answer, application_answer
from .streams import CallOutput


def environ_of(request: Request, body: Any, *, multithread: bool) -> dict[str, Any]:
    host, port = request.server
    client = (request.first(b"x-forwarded-for") or "").rpartition(",")[2].strip()
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": request.root,
        # Bytes, each as a character.
        "PATH_INFO": unquote_to_bytes(request.raw_path).decode("latin-1"),
        "RAW_URI": request.root + request.raw_path.decode("latin-1"),
        "QUERY_STRING": request.query.decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers:
        text = value.decode("latin-1")
        # With an underscore it would pass for another one.
        if b"_" in name:
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            environ[key] = text
            continue
        key = f"HTTP_{key}"
        between = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{between}{text}" if key in environ else text
    return environ


class _Head:
    """What an application says by `start_response`."""

    def __init__(self) -> None:
        self.given: tuple[int, Headers] | None = None
        #: Set once it has been sent.
        self.is_sent = False
        #: By the function that start_response returns.
        self.written: list[bytes] = []

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and self.is_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self.given is not None:
            raise RuntimeError("start_response was called before.")
        code = status.partition(" ")[0]
        if not (code.isascii() and code.isdigit() and len(code) == 3):
            raise AnswerInvalid(f"{status!r:.60} is no status")
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self.given = int(code), pairs
        return self.written.append

    @property
    def right(self) -> tuple[int, Headers]:
        if self.given is None:
            raise RuntimeError("The application did not call start_response.")
        return self.given

    @property
    def length(self) -> int | None:
        for name, value in self.right[1]:
            if name.lower() == b"content-length" and value.isdigit():
                return int(value)
        return None


def _close(value: Any) -> None:
    close = getattr(value, "close", None)
    if close is not None:
        close()


class _Body(io.RawIOBase):
    """The request's body, as it arrives."""

    def __init__(self, call: WsgiHttpCall) -> None:
        super().__init__()
        self._call = call
        self._rest = b""
        self._is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._is_over:
            receiving = asyncio.run_coroutine_threadsafe(self._call.receive(), self._call.loop)
            message = receiving.result()
            if message["type"] != "http.request":
                raise OSError("The client left before all of the body had arrived.")
            self._rest, self._is_over = message["body"], not message["more_body"]
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


class WsgiHttpCall(HttpCall):
    multithread = True

    def start(self, function: Any) -> Any:
        self._head = _Head()
        body = io.BufferedReader(_Body(self), 64 * 1024)
        environ = environ_of(self.request, body, multithread=self.multithread)
        return function(environ, self._head.start_response)

    def answer(self, value: Any, max_bytes: int) -> Answer | None:
        head, begun = self._head, b""
        try:
            for piece in value:
                if not isinstance(piece, (bytes, bytearray, memoryview)):
                    kind = type(piece).__name__
                    raise TypeError(f"The application must yield bytes, not {kind}.")
                begun = b"".join([*head.written, piece])
                head.written.clear()
                if not begun:
                    continue
                if not self.wire.begun:
                    # It may be all of it, which then goes out at once when the call has ended.
                    if head.length == len(begun):
                        break
                    self._begin()
                self.put(begun, more=True)
                begun = b""
            else:
                if not self.wire.begun:
                    whole, head.written = b"".join(head.written), []
                    return reply(*head.right, whole, self.request.method)
                self.put(b"".join(head.written), more=False)
                return None
        finally:
            _close(value)
        return reply(*head.right, begun, self.request.method)

    def _begin(self) -> None:
        self._head.is_sent = True
        self.wire.begin(*self._head.right)


class WsgiCall(ExecutedCall):
    """`execute` of an application: it is sent the payload with POST /."""

    def __init__(
        self,
        payload: str,
        limits: tuple[int, int],
        output: CallOutput,
        send: Any,
        request: Request,
        *,
        multithread: bool,
    ) -> None:
        super().__init__(payload, *limits, output, send)
        self.request = request
        self.multithread = multithread
        self._head = _Head()

    def start(self, function: Any) -> Any:
        body = io.BytesIO(self.payload.encode())
        environ = environ_of(self.request, body, multithread=self.multithread)
        return function(environ, self._head.start_response)

    def answer(self, value: Any, max_bytes: int) -> Answer | None:
        body = bytearray()
        collected = Collected(max_bytes)
        try:
            for piece in value:
                body += b"".join(self._head.written) + piece
                self._head.written.clear()
                if len(body) > max_bytes:
                    raise AnswerInvalid(f"it takes more than {max_bytes} bytes")
            body += b"".join(self._head.written)
        finally:
            _close(value)
        status, headers = self._head.right
        collected.begin(status, headers)
        return application_answer(status, collected.media_type, bytes(body), max_bytes)
