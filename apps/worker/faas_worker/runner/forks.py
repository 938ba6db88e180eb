"""What a handler's forks must not inherit of their runner, and what it leaves of them."""

from __future__ import annotations

import _posixsubprocess
import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import Any

from ..protocol import MAX_PROCESSES, Reason
from ..system import descendants

LEAVING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A timer that a call has set may go off when it has long been answered.
_TIMER_SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
_HARMLESS_SIGNALS = LEAVING_SIGNALS + _TIMER_SIGNALS

#: Audit events; `subprocess` comes down to these.
MAKING_PROCESSES = frozenset(
    {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
)
# Between two looks that tell whether processes still become more.
_GROWTH_SECONDS = 0.05
_MOST_LOOKS = 200
_MOST_LEFT = 16


def _take_no_notice(_number: int, _frame: object) -> None:
    pass


def ignore_signals() -> None:
    """The supervisor decides about leaving and tells it through the channel. Not SIG_IGN: programs
    that the handler starts would inherit it, and could not be terminated."""
    for number in _HARMLESS_SIGNALS:
        signal.signal(number, _take_no_notice)


class Forks:
    """Knows when handler code has made processes."""

    def __init__(self, own_descriptors: Callable[[], list[int]], tell: Callable[[], None]) -> None:
        """`tell` has the supervisor count the processes, which it does until there are none."""
        self._own_descriptors = own_descriptors
        self._tell = tell
        self._masks: dict[int, Iterable[int]] = {}
        self._last_ns = self._told_ns = 0
        os.register_at_fork(
            before=self._hold_signals,
            after_in_parent=self._release_signals,
            after_in_child=self._detach_copy,
        )
        # `multiprocessing` starts what it doesn't fork with this, which no event tells of.
        _posixsubprocess.fork_exec = self._heard(_posixsubprocess.fork_exec)

    def concern(self, started_ns: int) -> bool:
        """Whether a call that began at this time may have left processes."""
        return self._last_ns > started_ns

    async def settle(self, *, in_use: bool) -> Reason | None:
        """Returns once nothing that a call has left multiplies: where it does, the supervisor ends
        this process, and then that call pays for it, and none after it."""
        before = 0
        for _ in range(_MOST_LOOKS):
            left = len(descendants(os.getppid())) - 1
            if left <= before and left < MAX_PROCESSES:
                break
            before = left
            await asyncio.sleep(_GROWTH_SECONDS)
        # While other calls run, the processes may be theirs.
        return Reason.PROCESSES if before >= _MOST_LEFT and not in_use else None

    def _heard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            self.note()
            return function(*arguments)

        return noted

    def note(self) -> None:
        self._last_ns = now = monotonic_ns()
        if now - self._told_ns > _GROWTH_SECONDS * 1e9:
            self._told_ns = now
            self._tell()

    def _hold_signals(self) -> None:
        """A signal for a fork waits until the fork has its own way with signals."""
        self.note()  # The programs that uvloop starts are told of here alone.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, LEAVING_SIGNALS)
        self._masks[threading.get_ident()] = mask

    def _release_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(threading.get_ident()))

    def _detach_copy(self) -> None:
        """A fork made by the handler must neither answer nor hold our sockets open."""
        self._tell = lambda: None
        for number in _HARMLESS_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._release_signals()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in self._own_descriptors():
            with contextlib.suppress(OSError):
                os.dup2(null, fd, inheritable=False)
        os.close(null)
