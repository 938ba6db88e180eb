"""A runner's own way with signals, and what a handler's forks must not inherit of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic_ns

LEAVING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A timer that a call has set may go off when it has long been answered.
_TIMER_SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
_HARMLESS_SIGNALS = LEAVING_SIGNALS + _TIMER_SIGNALS

# Audit events; `subprocess` and `multiprocessing` come down to these.
_MAKING_PROCESSES = frozenset(
    {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
)
# More than the supervisor needs to make up its mind.
_SETTLE_SECONDS = 10.0


def _take_no_notice(_number: int, _frame: object) -> None:
    pass


def ignore_signals() -> None:
    """The supervisor decides about leaving and tells it through the channel. Not SIG_IGN: programs
    that the handler starts would inherit it, and could not be terminated."""
    for number in _HARMLESS_SIGNALS:
        signal.signal(number, _take_no_notice)


def keep_ignoring_signals() -> None:
    """A handler's own way with a signal stays, but none that would end the process."""
    for number in _HARMLESS_SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _take_no_notice)


class ForkWatch:
    """Knows when handler code has made processes, and whether they have been looked at since."""

    def __init__(
        self, own_descriptors: Callable[[], list[int]], tell: Callable[[bytes], None]
    ) -> None:
        """`tell` reaches the supervisor, which looks at the processes."""
        self._own_descriptors = own_descriptors
        self._tell = tell
        self._masks: dict[int, set[signal.Signals]] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._last_ns = 0
        self._unseen = False
        os.register_at_fork(
            before=self._hold_signals,
            after_in_parent=self._release_signals,
            after_in_child=self._detach_copy,
        )
        sys.addaudithook(self._on_event)

    def report(self) -> None:
        """To be called regularly."""
        if self._unseen:
            self._unseen = False
            self._tell(b"forked")

    def concerns(self, started_ns: int) -> bool:
        """Whether a call that began at this time may have left processes."""
        return self._last_ns > started_ns

    async def settle(self) -> None:
        """Returns when the supervisor has found nothing that multiplies.

        It ends this process otherwise, and then the call that waits here pays for what it has
        done; without the wait it would have its answer and the calls after it would pay.
        """
        loop = asyncio.get_running_loop()
        seen: asyncio.Future[None] = loop.create_future()
        self._waiting.append(seen)
        self._tell(b"settle")
        timer = loop.call_later(_SETTLE_SECONDS, self.settled)
        await seen
        timer.cancel()

    def settled(self) -> None:
        waiting, self._waiting = self._waiting, []
        for seen in waiting:
            if not seen.done():
                seen.set_result(None)

    def _on_event(self, event: str, _arguments: object) -> None:
        if event in _MAKING_PROCESSES:
            self._last_ns = monotonic_ns()
            if not self._unseen:
                self._unseen = True
                self._tell(b"forking")

    def _hold_signals(self) -> None:
        """A signal for a fork waits until the fork has its own way with signals."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, LEAVING_SIGNALS)
        self._masks[threading.get_ident()] = mask

    def _release_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(threading.get_ident()))

    def _detach_copy(self) -> None:
        """A fork made by the handler must neither answer nor hold our sockets open."""
        self._tell = _say_nothing
        for number in _HARMLESS_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._release_signals()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in self._own_descriptors():
            with contextlib.suppress(OSError):
                os.dup2(null, fd, inheritable=False)
        os.close(null)


def _say_nothing(_message: bytes) -> None:
    pass
