"""Memory a runner and its supervisor share: written without a system call, read without asking."""

from __future__ import annotations

import mmap
import struct

_BEAT, _IN_FLIGHT, _DEADLINE, _SERVED, _RESTING, _GOOD = range(6)


class Pulse:
    """One runner's signs of life. Times are CLOCK_MONOTONIC nanoseconds.

    Handler code could overwrite it, so the supervisor bounds whatever it reads here.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._cells = memoryview(self._memory).cast("Q")

    def beat(self, now_ns: int) -> None:
        self._cells[_BEAT] = now_ns

    def calls(self, in_flight: int, deadline_ns: int) -> None:
        """`deadline_ns` is when the last of the calls in flight must have ended."""
        self._cells[_IN_FLIGHT] = in_flight
        self._cells[_DEADLINE] = deadline_ns

    def count_served(self) -> None:
        self._cells[_SERVED] += 1

    def count_good(self) -> None:
        """A call has its result."""
        self._cells[_SERVED] += 1
        self._cells[_GOOD] += 1

    def rest(self, resting: bool) -> None:
        """A resting runner beats slowly: nobody has called it for a while."""
        self._cells[_RESTING] = int(resting)

    @property
    def last_beat_ns(self) -> int:
        return self._cells[_BEAT]

    @property
    def in_flight(self) -> int:
        return self._cells[_IN_FLIGHT]

    @property
    def deadline_ns(self) -> int:
        return self._cells[_DEADLINE]

    @property
    def served(self) -> int:
        return self._cells[_SERVED]

    @property
    def good(self) -> int:
        return self._cells[_GOOD]

    @property
    def resting(self) -> bool:
        return self._cells[_RESTING] != 0

    def close(self) -> None:
        self._cells.release()
        self._memory.close()


class NoticeBoard:
    """A short text the supervisor shows to every runner: how the last one ended."""

    _LENGTH = struct.Struct("<I")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def post(self, text: bytes) -> None:
        text = text[: mmap.PAGESIZE - self._LENGTH.size]
        # The length goes to zero first, so a reader never sees half of two notices.
        self._LENGTH.pack_into(self._memory, 0, 0)
        self._memory[self._LENGTH.size : self._LENGTH.size + len(text)] = text
        self._LENGTH.pack_into(self._memory, 0, len(text))

    def read(self) -> bytes:
        (length,) = self._LENGTH.unpack_from(self._memory, 0)
        return self._memory[self._LENGTH.size : self._LENGTH.size + length]
