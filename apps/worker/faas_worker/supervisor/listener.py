"""The listening socket, bound before anything slow is imported and shared by all runners."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from typing import TYPE_CHECKING

from ..protocol import BACKLOG, Header
from ..settings import Settings

if TYPE_CHECKING:
    from ..runner.results import Answer

_REFUSING_SECONDS = 0.2
_REQUEST_BYTES = 1024 * 1024


def listen(settings: Settings) -> socket.socket:
    if settings.socket_path is not None:
        return _listen_unix(settings.socket_path)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((settings.host, settings.port))
    return _ready(sock)


def stop_listening(sock: socket.socket, settings: Settings) -> None:
    sock.close()
    if settings.socket_path is not None:
        with contextlib.suppress(OSError):
            os.unlink(settings.socket_path)


def refuse_waiting(sock: socket.socket, answer: Answer) -> None:
    """Who has connected and was accepted by no runner hears that no handler was called, and can go
    elsewhere; closing alone would cut the request off."""
    waiting = list[socket.socket]()
    head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n"
    whole = head.encode() + b"\r\n" + answer.body
    bare = head.encode() + b"%b: %b\r\n\r\n" % (Header.ERROR, answer.code.encode())
    with contextlib.suppress(OSError):
        while len(waiting) < BACKLOG:
            waiting.append(sock.accept()[0])
    # From now on the kernel refuses: nobody is let in to be cut off.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    end = time.monotonic() + _REFUSING_SECONDS
    for connection in waiting:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(max(end - time.monotonic(), 0.001))
            is_head = connection.recv(_REQUEST_BYTES).startswith(b"HEAD ")
            connection.sendall(bare if is_head else whole)
            connection.shutdown(socket.SHUT_WR)
            # What has not been read would reset the caller's socket before it has read the answer.
            while time.monotonic() < end and connection.recv(_REQUEST_BYTES):
                pass


def _listen_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    # The directory around it is private; the manager may run as another user.
    os.chmod(path, 0o666)
    return _ready(sock)


def _ready(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    sock.listen(BACKLOG)
    return sock
