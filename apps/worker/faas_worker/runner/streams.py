"""sys.stdout and sys.stderr of a runner: text streams whose lines carry the id of their call.

A line goes out with one write to the pipe, or in several marked pieces that the supervisor joins.
No lock is held that a fork could inherit, and nobody waits long for a reader.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar
from select import select
from time import monotonic
from typing import ClassVar

CALL_BYTES = 1024 * 1024
# A pipe that polls as writable takes this much at once.
_ATOMIC_BYTES = 4096
_PIECE_BYTES = 3840
# After it nothing of a call follows: see docs/worker-protocol.md, Log.
END_OF_CALL = b'{"faas": "end of call"}'
# A call waits so long at once, and in all, for somebody to read what it prints.
_WAIT_SECONDS = 0.1
_WRITE_LIMIT_SECONDS = 1.0


class _Pipe:
    """One of the descriptors 1 and 2, which the supervisor reads."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._inode = os.fstat(fd).st_ino
        self.dropped = 0

    @property
    def is_redirected(self) -> bool:
        """A handler has put something else at its number, which wants to have plain text."""
        try:
            return os.fstat(self.fd).st_ino != self._inode
        except OSError:
            return False

    def write(self, data: bytes, seconds: float) -> float:
        """At most _ATOMIC_BYTES; what finds no room in time is dropped and counted. Returns what is
        left of the time."""
        if not self._has_room(0):
            began = monotonic()
            if not self._has_room(min(seconds, _WAIT_SECONDS)):
                self.dropped += len(data)
                return 0.0
            seconds = max(seconds - (monotonic() - began), 0.0)
        with suppress(OSError):
            if self.dropped:
                note = b"[%d bytes of output dropped: nobody reads it]\n" % self.dropped
                self.dropped = 0
                os.write(self.fd, note)
                # It may have taken the room.
                return self.write(data, seconds)
            os.write(self.fd, data)
        return seconds

    def _has_room(self, seconds: float) -> bool:
        # No object for it: what another thread uses of one, a fork would inherit in use.
        return bool(select((), (self.fd,), (), seconds)[1])


class CallOutput:
    """What one call (or, without an id, the process itself) has printed so far."""

    #: Tells the supervisor that a line is one of a call: see `RunnerOutput`.
    mark = ""
    __slots__ = ("_left", "_prefix", "_seconds_left", "_unfinished", "dropped")

    def __init__(self, request_id: str | None, limit: int = CALL_BYTES) -> None:
        self._prefix = f"[{request_id}] ".encode() if request_id else b""
        self._left = limit
        self._seconds_left = _WRITE_LIMIT_SECONDS
        self._unfinished: dict[_Pipe, bytes] | None = None
        self.dropped = 0

    def write(self, pipe: _Pipe, data: bytes) -> None:
        if len(data) > self._left:
            self.dropped += len(data) - self._left
            data = data[: self._left]
        if not data:
            return
        self._left -= len(data)
        with _LOCK:
            unfinished = self._unfinished = self._unfinished or {}
            lines, newline, rest = (unfinished.pop(pipe, b"") + data).rpartition(b"\n")
            if rest:
                unfinished[pipe] = b"" if len(rest) > _PIECE_BYTES else rest
                rest = b"" if unfinished[pipe] else rest
            if newline or rest:
                self._put(pipe, lines.split(b"\n") if newline else [], rest)

    @property
    def is_whole(self) -> bool:
        """Each of its lines has its end."""
        return not self._unfinished

    def flush(self, pipe: _Pipe) -> None:
        """What has no newline yet gets out, should this process end before there is one."""
        if not self._unfinished:
            return
        with _LOCK:
            unfinished = self._unfinished or {}
            if rest := unfinished.get(pipe):
                unfinished[pipe] = b""
                self._put(pipe, [], rest)

    def finish(self, pipes: tuple[_Pipe, _Pipe], *, tells_end: bool = False) -> None:
        """Ends the call's last lines, and tells how much was left out. `tells_end`: the last line
        of each stream says that it is."""
        if not self._unfinished and not self.dropped and not tells_end:
            return
        with _LOCK:
            unfinished, self._unfinished = self._unfinished or {}, None
            for pipe, rest in [*unfinished.items()]:
                self._put(pipe, [rest])
            if self.dropped:
                note = f"[{self.dropped} bytes of this call's output dropped]"
                self.dropped = 0
                self._put(pipes[0], [note.encode()])
            if tells_end:
                for pipe in pipes:
                    self._put(pipe, [END_OF_CALL])

    def _put(self, pipe: _Pipe, lines: list[bytes], rest: bytes = b"") -> None:
        """`rest`: the beginning of a line whose end is still to come."""
        if not self._prefix or pipe.is_redirected:
            text = b"".join(line + b"\n" for line in lines) + rest
            for start in range(0, len(text), _ATOMIC_BYTES):
                self._write(pipe, text[start : start + _ATOMIC_BYTES])
            return
        end, begin = self.mark.encode() + self._prefix, self.mark.encode() + b"~" + self._prefix
        ready = b""
        for line, head in [*((line, end) for line in lines), *([(rest, begin)] if rest else [])]:
            *begun, last = _pieces(line)
            for record in (*(begin + piece for piece in begun), head + last):
                if len(ready) + len(record) >= _ATOMIC_BYTES:
                    self._write(pipe, ready)
                    ready = b""
                ready += record + b"\n"
        self._write(pipe, ready)

    def _write(self, pipe: _Pipe, data: bytes) -> None:
        self._seconds_left = pipe.write(data, self._seconds_left)
        if self is PROCESS_OUTPUT and not pipe.dropped:
            # It has no end: once somebody reads, it waits again.
            self._seconds_left = _WRITE_LIMIT_SECONDS


def _pieces(line: bytes) -> list[bytes]:
    if len(line) <= _PIECE_BYTES:
        return [line]
    return [line[at : at + _PIECE_BYTES] for at in range(0, len(line), _PIECE_BYTES)]


# Held for no longer than a line takes. A finaliser or a signal's handler may print while its thread
# holds it. A copy of this process gets one of its own: another thread may hold it when it is made.
_LOCK = threading.RLock()


def _renew_lock() -> None:
    global _LOCK
    _LOCK = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
PROCESS_OUTPUT = CallOutput(None, limit=1 << 62)
CURRENT_OUTPUT: ContextVar[CallOutput] = ContextVar("faas_output", default=PROCESS_OUTPUT)


class _Buffer(io.BufferedIOBase):
    """`sys.stdout.buffer`, whatever text stream stands on it."""

    mode = "wb"

    def __init__(self, pipe: _Pipe, name: str) -> None:
        super().__init__()
        self.pipe = pipe
        self.name = name

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.pipe.fd

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        data = bytes(data)
        CURRENT_OUTPUT.get().write(self.pipe, data)
        return len(data)

    def flush(self) -> None:
        CURRENT_OUTPUT.get().flush(self.pipe)

    def close(self) -> None:
        """Stays open: a text stream that a call has put on it is gone with that call."""
        self.flush()


class Streams:
    """The streams that handler code has in its process."""

    _own: ClassVar[tuple[io.TextIOWrapper, io.TextIOWrapper]]

    def __init__(self, mark: str) -> None:
        CallOutput.mark = mark
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        if null != 0:
            os.close(null)
        sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115 - lives as long as we do
        self.pipes = _Pipe(1), _Pipe(2)
        out, err = Streams._own = _text(self.pipes[0], "<stdout>"), _text(self.pipes[1], "<stderr>")
        sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = err  # type: ignore[misc]
        self.keep()

    def keep(self) -> None:
        """What stands there now, handler code has put there for good."""
        self._kept = sys.stdout, sys.stderr

    def put_back(self) -> bool:
        """To be done when no call runs: what one has put in their place was for its own lines.
        False when those that were there can't be used any more."""
        sys.stdout, sys.stderr = self._kept
        try:
            # What the file itself has put there may have no such attribute, or be None.
            return not any(getattr(stream, "closed", False) for stream in self._kept)
        except Exception:  # detached
            return False

    @classmethod
    def flush(cls) -> None:
        """Text that is still in the streams themselves belongs to the call that has just run."""
        if cls._is_flushed():
            return
        with suppress(BaseException):
            sys.stdout.flush()
        with suppress(BaseException):
            sys.stderr.flush()

    @classmethod
    def _is_flushed(cls) -> bool:
        """Told fast where calls print nothing."""
        out, err = cls._own
        try:
            return (
                sys.stdout is out
                and sys.stderr is err
                and out.write_through
                and err.write_through
                and CURRENT_OUTPUT.get().is_whole
            )
        except Exception:  # detached
            return False


def _text(pipe: _Pipe, name: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        _Buffer(pipe, name), encoding="utf-8", errors="backslashreplace", write_through=True
    )
