"""What a handler's own forks must not inherit from its runner."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable

LEAVING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _take_no_notice(_number: int, _frame: object) -> None:
    pass


def ignore_leaving_signals() -> None:
    """The supervisor decides about leaving and tells it through the channel. Not SIG_IGN: programs
    that the handler starts would inherit it, and could not be terminated."""
    for number in LEAVING_SIGNALS:
        signal.signal(number, _take_no_notice)


class ForkWatch:
    def __init__(self, own_descriptors: Callable[[], list[int]]) -> None:
        self.forked = False
        self._own_descriptors = own_descriptors
        self._masks: dict[int, set[signal.Signals]] = {}
        os.register_at_fork(
            before=self._hold_signals,
            after_in_parent=self._note,
            after_in_child=self._detach_copy,
        )

    def _hold_signals(self) -> None:
        """A signal for a fork waits until the fork has its own way with signals."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, LEAVING_SIGNALS)
        self._masks[threading.get_ident()] = mask

    def _release_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(threading.get_ident()))

    def _note(self) -> None:
        self._release_signals()
        self.forked = True

    def _detach_copy(self) -> None:
        """A fork made by the handler must neither answer nor hold our sockets open."""
        for number in LEAVING_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._release_signals()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in self._own_descriptors():
            with contextlib.suppress(OSError):
                os.dup2(null, fd, inheritable=False)
        os.close(null)
