"""What handler code prints: whole lines, named by their call, bounded, and never blocking it."""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from codecs import utf_8_decode
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar

CALL_BYTES = 1024 * 1024
_BACKLOG_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_LINE_CHARS = 16 * 1024
# With up to four bytes each it is a line that the supervisor copies as one.
_WHOLE_CHARS = 60 * 1024
# A pipe that polls as writable takes this much without blocking.
_ATOMIC_BYTES = 4096


class Sink:
    """Writes to a file descriptor that nobody may be reading.

    Small pieces go out at once, so that what a call printed before it killed the process is not
    lost; the rest waits in a bounded backlog for a thread that may block.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._backlog: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> None:
        with self._lock:
            if not self._waiting_bytes and len(data) <= _ATOMIC_BYTES and self._writable():
                self._write_now(data)
            elif self._waiting_bytes + len(data) > _BACKLOG_BYTES:
                self._dropped += len(data)
            else:
                self._backlog.append(data)
                self._waiting_bytes += len(data)
                self._wake()

    def flush(self, seconds: float) -> None:
        """Waits for the backlog, but not longer than this."""
        with self._lock:
            self._more.wait_for(lambda: not self._waiting_bytes, timeout=seconds)

    def _writable(self) -> bool:
        return any(event & select.POLLOUT for _, event in self._poll.poll(0))

    def _write_now(self, data: bytes) -> None:
        try:
            os.write(self.fd, data)
        except OSError:
            self._dropped += len(data)

    def _wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._drain, name="faas-console", daemon=True)
            try:
                thread.start()
                self._thread = thread
            except RuntimeError:  # no more threads: the next line tries again
                return
        self._more.notify_all()

    def _drain(self) -> None:
        while True:
            with self._lock:
                self._more.wait_for(lambda: bool(self._backlog))
                pieces, size = [], 0
                while self._backlog and size < _CHUNK_BYTES:
                    pieces.append(self._backlog.popleft())
                    size += len(pieces[-1])
                if self._dropped:
                    note = b"[%d bytes of output dropped: nobody reads it]\n" % self._dropped
                    pieces.append(note)
                    self._dropped = 0
            view = memoryview(b"".join(pieces))
            try:
                while view:
                    view = view[os.write(self.fd, view) :]
            except OSError:
                pass
            with self._lock:
                # Only now, so that nothing overtakes what is being written.
                self._waiting_bytes -= size
                self._more.notify_all()


class CallOutput:
    """What one call (or, without an id, the process itself) has printed so far."""

    #: Tells the supervisor that a line is one of a call: see `RunnerOutput`.
    mark = ""
    __slots__ = ("_left", "_lock", "_partial", "_undecoded", "dropped", "prefix")

    def __init__(self, request_id: str | None, limit: int = CALL_BYTES) -> None:
        self.prefix = f"{self.mark}[{request_id}] " if request_id else ""
        self.dropped = 0
        self._left = limit
        self._partial: dict[Sink, str] | None = None
        self._undecoded: dict[Sink, bytes] | None = None
        self._lock: threading.Lock | None = None

    def write_bytes(self, sink: Sink, data: bytes) -> None:
        """A character may come in several pieces."""
        held = self._undecoded = self._undecoded or {}
        data = held.pop(sink, b"") + data
        text, length = utf_8_decode(data, "backslashreplace", False)
        if length < len(data):
            held[sink] = data[length:]
        self.write(sink, text)

    def write(self, sink: Sink, text: str) -> None:
        size = len(text)
        if size > self._left:
            self.dropped += size - self._left
            text = text[: self._left]
            size = self._left
        if not size:
            return
        self._left -= size
        # Most calls print nothing, so the lock is made by the first that does.
        if self._lock is None:
            self._lock = threading.Lock()
        with self._lock:
            partial = self._partial = self._partial or {}
            text = partial.pop(sink, "") + text
            head, newline, tail = text.rpartition("\n")
            if len(tail) > _LINE_CHARS:
                head, newline, tail = text, "\n", ""
            if tail:
                partial[sink] = tail
        if newline:
            self._lines(sink, head)

    def flush(self, sink: Sink) -> None:
        """What has no newline yet gets out, should this process end before there is one."""
        tail = (self._partial or {}).get(sink)
        if not tail:
            return
        if self.prefix:
            name = self.prefix.removeprefix(self.mark)
            sink.write(f"{self.mark}~{name}{tail}\n".encode("utf-8", "backslashreplace"))
        elif (self._partial or {}).pop(sink, None) is not None:
            sink.write(tail.encode("utf-8", "backslashreplace"))

    def finish(self, sinks: Iterable[Sink]) -> None:
        """Prints what has no newline yet, and how much was left out."""
        undecoded, self._undecoded = self._undecoded, None
        for sink, data in (undecoded or {}).items():
            self.write(sink, data.decode("utf-8", "backslashreplace"))
        partial, self._partial = self._partial, None
        for sink, text in (partial or {}).items():
            self._lines(sink, text)
        if self.dropped:
            dropped, self.dropped = self.dropped, 0
            for sink in sinks:
                self._lines(sink, f"[{dropped} characters of this call's output dropped]")
                return

    def _lines(self, sink: Sink, text: str) -> None:
        prefix = self.prefix
        if prefix:
            if len(text) > _WHOLE_CHARS:
                text = "\n".join(_cut(line) for line in text.split("\n"))
            text = prefix + text.replace("\n", "\n" + prefix)
        sink.write(f"{text}\n".encode("utf-8", "backslashreplace"))


def _cut(line: str) -> str:
    starts = range(0, max(len(line), 1), _WHOLE_CHARS)
    return "\n".join(line[start : start + _WHOLE_CHARS] for start in starts)


PROCESS_OUTPUT = CallOutput(None, limit=1 << 62)
CURRENT_OUTPUT: ContextVar[CallOutput] = ContextVar("faas_output", default=PROCESS_OUTPUT)


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`."""

    def __init__(self, text: LineWriter) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        CURRENT_OUTPUT.get().write_bytes(self._text.sink, bytes(data))
        return len(data)

    def flush(self) -> None:
        self._text.flush()


class LineWriter(io.TextIOBase):
    """Stands where sys.stdout or sys.stderr was."""

    def __init__(self, sink: Sink, name: str) -> None:
        self.sink = sink
        self.name = name
        self.buffer = _Bytes(self)

    encoding = "utf-8"
    errors = "backslashreplace"

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        CURRENT_OUTPUT.get().write(self.sink, text)
        return len(text)

    def flush(self) -> None:
        CURRENT_OUTPUT.get().flush(self.sink)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.sink.fd

    def close(self) -> None:
        """Stays open: the next call prints too."""


def take_over_streams(mark: str) -> tuple[Sink, Sink]:
    """Puts the line writers in place and gives the process an empty stdin."""
    CallOutput.mark = mark
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null != 0:
        os.close(null)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115 - lives as long as we do
    sinks = Sink(1), Sink(2)
    sys.stdout = sys.__stdout__ = LineWriter(sinks[0], "<stdout>")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = LineWriter(sinks[1], "<stderr>")  # type: ignore[misc]
    return sinks
