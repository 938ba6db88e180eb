"""The threads that run handlers which are plain functions."""

from __future__ import annotations

import queue
import threading
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable
from inspect import iscoroutine
from os import _exit
from typing import Any

from ..supervisor.reports import EXIT_UNFIT
from ..system import allow_one_more_stack
from .calls import Call

THREAD_STACK_BYTES = 8 * 1024 * 1024
_Anything = BaseException


class ThreadPool:
    """Threads that are started when needed, fed by a queue in C, and answer in batches.

    Handler code can raise an exception in every thread of its process, to strike wherever that
    thread is. So a call is noted before anybody is told of it, and is noted until it has its
    answer: what was told is said again, by `look_after` at the latest.
    """

    def __init__(self, work: Callable[[Call], Any]) -> None:
        self._work = work
        self._loop = get_running_loop()
        self._calls: deque[Call] = deque()
        # At least one word for each of them.
        self._words: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._done: deque[tuple[Call, Any]] = deque()
        self._wake_sent = False
        self._threads: list[threading.Thread] = []
        self._busy = 0
        threading.stack_size(THREAD_STACK_BYTES)
        self._start_thread()

    @property
    def size(self) -> int:
        return len(self._threads)

    def submit(self, call: Call) -> None:
        self._busy += 1
        if self._busy > len(self._threads):
            self._start_thread()
        self._calls.append(call)
        self._words.put(None)

    def look_after(self) -> None:
        if self._done:
            self._deliver()
        if not all(thread.is_alive() for thread in self._threads):
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            while len(self._threads) < max(self._busy, 1):
                if not self._start_thread():
                    break
            self._words.put(None)

    def _start_thread(self) -> bool:
        """False when the process may have no more: those there are take the calls in turn."""
        allow_one_more_stack(THREAD_STACK_BYTES)
        thread = threading.Thread(target=self._serve, name="faas-handler", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            return False
        self._threads.append(thread)
        return True

    def _serve(self) -> None:
        while True:
            try:
                while True:
                    self._serve_next()
            except _Anything:
                self._words.put(None)

    def _serve_next(self) -> None:
        self._words.get()
        if not self._calls:
            return
        call = self._calls.popleft()
        try:
            self._done.append((call, self._work(call)))
        except _Anything:
            # What makes the answers is broken itself: the next runner does it better.
            _exit(EXIT_UNFIT)
        if not self._wake_sent:
            self._wake_sent = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Lowered first: a result that comes in meanwhile sends its own wake-up.
        self._wake_sent = False
        done = self._done
        while done:
            call, outcome = done[0]
            if call.done is not None and not call.done.done():
                call.done.set_result(outcome)
            elif iscoroutine(outcome):
                outcome.close()
            done.popleft()
            self._busy -= 1
