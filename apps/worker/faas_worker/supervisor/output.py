"""Copies what runners print to the worker's own stdout and stderr, which no runner has.

So nothing that handler code writes passes for a note of the supervisor or steers a terminal, and
what a process writes by itself, to descriptor 1 or 2, does not pass for a line of one of the calls.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

from ..confidential import masked_bytes
from ..runner.streams import END_OF_CALL

_READ_BYTES = 64 * 1024
# The most a pipe holds that nobody privileged has enlarged, and a little more.
_LAST_READS = 20
_PENDING_BYTES = 256 * 1024
_LINE_BYTES = 256 * 1024
_UNFINISHED = 64
# Engines keep a line in pieces of 16 KiB, and may show the later ones alone.
_PIECE_BYTES = 15_000
_TAIL_BYTES = 4096
_TAIL_LINES = 20
# A pipe that polls as writable takes this much without blocking.
_ATOMIC_BYTES = 4096

# All of C0 but tab and line feed, and DEL; C1 as UTF-8.
_CONTROLS = bytes({*range(32), 127} - {9, 10})
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")
# Whatever a reader of JSON could take for an object with a member "faas"; the name of a call.
_LIKE_A_NOTE = re.compile(rb"^(?=[ \t]*\{.*(?:faas|\\u))", re.MULTILINE)
_LIKE_A_CALL = re.compile(rb"^(?=\[[!-~]+\] )", re.MULTILINE)
_MARK_OF_A_CALL = re.compile(rb"\[[\w.-]{1,64}\] ")
_LIKE_OURS = re.compile(rb"\{\"faas\": \"|\[[\w.-]{1,64}\] ")
_NO_NOTE = b"| "


class _Stamps:
    """The time and the stream of a line, written before it for those who keep the log in a file."""

    def __init__(self) -> None:
        self.are_wanted = os.environ.get("FAAS_LOG_STAMPS") == "1"
        self._last_ns = 0

    def next(self) -> bytes:
        """RFC 3339 with nanoseconds; no two lines have the same, so that they stay in order."""
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        seconds, fraction = divmod(self._last_ns, 10**9)
        return b"%b.%09dZ" % (_second(seconds), fraction)


@lru_cache(maxsize=2)
def _second(seconds: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()


_STAMPS = _Stamps()


def _stamped(lines: bytes, stream: bytes) -> bytes:
    return b"".join(
        b"%b %b %b" % (_STAMPS.next(), stream, line) for line in lines.splitlines(keepends=True)
    )


class Outlet:
    """One of the worker's own streams, written to in whole lines and without ever waiting."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._pending = bytearray()
        self._name = b"stdout" if fd == 1 else b"stderr"

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    @property
    def is_full(self) -> bool:
        return len(self._pending) >= _PENDING_BYTES

    @property
    def is_stuck(self) -> bool:
        """Nobody has read for so long that not even notes of the worker have room."""
        return len(self._pending) >= 4 * _PENDING_BYTES

    def put(self, lines: bytes) -> None:
        """Whole lines."""
        self._pending += _stamped(lines, self._name) if _STAMPS.are_wanted else lines

    def flush(self, seconds: float = 0.0) -> None:
        """Waits for the reader, but not longer than this."""
        end = time.monotonic() + seconds
        try:
            while self._pending:
                left = max(end - time.monotonic(), 0)
                events = [event for _, event in self._poll.poll(left * 1000)]
                if any(event & select.POLLERR for event in events):
                    # Its reader has gone, and will not come again.
                    self._pending.clear()
                    return
                if not events:
                    return
                del self._pending[: os.write(self.fd, self._pending[:_ATOMIC_BYTES])]
        except OSError:
            self._pending.clear()


STDOUT, STDERR = OUTLETS = Outlet(1), Outlet(2)


class RunnerOutput:
    """The two streams of one runner and of all that it starts."""

    def __init__(self) -> None:
        #: Stands before each line that the runner prints for a call; other programs don't know it.
        self.mark = f"\0{os.urandom(8).hex()}"
        self.streams = tuple(_Stream(outlet, self.mark.encode()) for outlet in OUTLETS)

    def move_in(self) -> None:
        """In the runner: its descriptors 1 and 2 are the other ends."""
        for fd, stream in enumerate(self.streams, start=1):
            os.dup2(stream.theirs, fd)
            stream.close()

    def leave_to_runner(self) -> None:
        for stream in self.streams:
            os.close(stream.theirs)
            stream.theirs = -1

    def finish(self) -> None:
        """The runner is gone; what it has not finished is printed as it is."""
        for stream in self.streams:
            stream.finish()
            stream.close()
            stream.outlet.flush()

    def close(self) -> None:
        for stream in self.streams:
            stream.close()

    @property
    def readable(self) -> list[_Stream]:
        """Those that may have something, for which there is room."""
        return [stream for stream in self.streams if not stream.ended and not stream.outlet.is_full]

    def loaded(self) -> None:
        """Why it could not be loaded will not be asked."""
        self.streams[1].tail = None

    def last_of_stderr(self) -> str:
        """Its last lines while the handler was being loaded."""
        lines = (self.streams[1].tail or b"").decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


def relay(outputs: Iterable[RunnerOutput]) -> bool:
    """Copies what there is; False when there was nothing. Waits for no reader."""
    found = False
    for output in outputs:
        for stream in output.readable:
            found = stream.read() or found
    for outlet in OUTLETS:
        if outlet.has_pending:
            outlet.flush()
    return found


class _Stream:
    def __init__(self, outlet: Outlet, mark: bytes) -> None:
        self.source, self.theirs = os.pipe()
        os.set_blocking(self.source, False)
        self.outlet = outlet
        # Nobody has the other end any more.
        self.ended = False
        #: The end of what was printed; None when nobody will ask for it.
        self.tail: bytes | None = b""
        self._mark = mark
        self._rest = b""
        # What calls have flushed of lines that have no end yet, by the name of the call.
        self._unfinished: dict[bytes, bytes] = {}

    def close(self) -> None:
        for fd in (self.source, self.theirs):
            if fd >= 0:
                os.close(fd)
        self.source = self.theirs = -1
        self.ended = True

    def read(self) -> bool:
        """False when there is nothing to read."""
        data = b""
        with suppress(BlockingIOError):
            data = os.read(self.source, _READ_BYTES)
            self.ended = not data
        if not data:
            return False
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        if newline:
            self._print(whole)
        self._rest = rest
        if len(rest) > _LINE_BYTES:
            self._print_rest()
        return True

    def finish(self) -> None:
        for _ in range(_LAST_READS):
            if self.ended or self.outlet.is_stuck or not self.read():
                break
        self._print_rest()
        for line in self._unfinished.values():
            self._put(line)

    def _print_rest(self) -> None:
        rest, self._rest = self._rest, b""
        if rest:
            self._print(rest)

    def _print(self, lines: bytes) -> None:
        unmarked, *marked = lines.split(self._mark)
        pieces = [] if marked and not unmarked else [unmarked]
        if marked and unmarked:
            pieces = [unmarked.removesuffix(b"\n")]
        pieces = [_unlike_ours(piece) for piece in pieces]
        for piece in marked:
            line, _, others = piece.partition(b"\n")
            if line.startswith(b"~["):
                pieces += self._begin_line(line[1:])
            elif line.startswith(b"["):
                pieces.append(self._end_line(line))
            else:
                pieces.append(_unlike_ours(line))
            if others:
                pieces.append(_unlike_ours(others.removesuffix(b"\n")))
        if pieces:
            self._put(b"\n".join(pieces))

    def _put(self, lines: bytes) -> None:
        lines = _in_pieces(_printable(_masked(lines))) + b"\n"
        self.outlet.put(lines)
        if self.tail is not None:
            self.tail = (self.tail + lines)[-_TAIL_BYTES:]

    def _begin_line(self, piece: bytes) -> list[bytes]:
        """Of a call, to be continued; what gets too long is a line of its own."""
        name, _, text = piece.partition(b"] ")
        line = self._unfinished.pop(name, name + b"] ") + text
        if len(line) > _LINE_BYTES or len(self._unfinished) >= _UNFINISHED:
            return [line]
        self._unfinished[name] = line
        return []

    def _end_line(self, line: bytes) -> bytes:
        if not self._unfinished:
            return line
        name, _, text = line.partition(b"] ")
        begun = self._unfinished.pop(name, None)
        return line if begun is None else begun + text


def _masked(lines: bytes) -> bytes:
    """But for the worker's own marks, of which a short secret may be a part."""
    masked = masked_bytes(lines)
    if masked == lines:
        return lines
    marks, texts = [], []
    for line in lines.split(b"\n"):
        call = _MARK_OF_A_CALL.match(line)
        mark = call[0] if call else b""
        if line[len(mark) :] == END_OF_CALL:
            mark = line
        marks.append(mark)
        texts.append(line[len(mark) :])
    texts = masked_bytes(b"\n".join(texts)).split(b"\n")
    if len(texts) < len(marks):
        # One of several lines is gone.
        return masked
    return b"\n".join(mark + text for mark, text in zip(marks, texts, strict=True))


def _in_pieces(lines: bytes) -> bytes:
    """Cuts long lines of which a piece could pass for ours; each piece says whose it is then."""
    if len(lines) <= _PIECE_BYTES:
        return lines
    return b"\n".join(
        line if len(line) <= _PIECE_BYTES else _pieces_of(line) for line in lines.split(b"\n")
    )


def _pieces_of(line: bytes) -> bytes:
    call = _MARK_OF_A_CALL.match(line)
    if not _LIKE_OURS.search(line, call.end() if call else 1):
        return line
    mark = call[0] if call else _NO_NOTE
    pieces, at = [], 0
    while at < len(line):
        end = at + _PIECE_BYTES
        # Not within a character.
        while end < len(line) and line[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append((mark if at else b"") + line[at:end])
        at = end
    return b"\n".join(pieces)


def _unlike_ours(lines: bytes) -> bytes:
    if b"faas" in lines or b"\\u" in lines:
        lines = _LIKE_A_NOTE.sub(_NO_NOTE, lines)
    if lines.startswith(b"[") or b"\n[" in lines:
        lines = _LIKE_A_CALL.sub(_NO_NOTE, lines)
    return lines


def _printable(lines: bytes) -> bytes:
    """UTF-8 without control characters."""
    if not lines.isascii():
        lines = lines.decode("utf-8", "backslashreplace").encode()
    if b"\xc2" in lines or len(lines.translate(None, _CONTROLS)) < len(lines):
        lines = lines.replace(b"\r\n", b"\n").removesuffix(b"\r")
        return _CONTROL.sub(_escaped, lines)
    return lines


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in found[0])
