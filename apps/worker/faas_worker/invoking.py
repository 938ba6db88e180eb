"""Calls the handler: coroutines on the loop, functions on threads, both within their limit."""

from __future__ import annotations

import queue
import threading
from asyncio import current_task, get_running_loop
from collections import deque
from collections.abc import Awaitable, Callable
from inspect import isawaitable, iscoroutine
from os import _exit, getpid
from typing import Any

from .calls import Call
from .console import CURRENT_OUTPUT
from .loading import Handler
from .reports import EXIT_UNFIT
from .restoring import end_tracing
from .results import Answer, handler_error, result_answer
from .system import allow_one_more_stack

THREAD_STACK_BYTES = 8 * 1024 * 1024
_Anything = BaseException


class Invoker:
    """`answer(call)` runs the handler for one call and returns what to send."""

    def __init__(
        self,
        handler: Handler,
        max_result_bytes: int,
        put_back: Callable[[], None],
    ) -> None:
        """`put_back` undoes what a call has broken of what all calls share."""
        self._handler = handler
        self._put_back = put_back
        self._max_result_bytes = max_result_bytes
        self._pid = getpid()
        self._pool = None if handler.is_async else ThreadPool(self._run_in_thread)
        self.answer: Callable[[Call], Awaitable[Answer | None]] = (
            self._answer_on_loop if self._pool is None else self._answer_from_pool
        )

    async def _answer_on_loop(self, call: Call) -> Answer | None:
        return await self._finish_on_loop(call, self._handler.call, call.payload)

    async def _answer_from_pool(self, call: Call) -> Answer | None:
        assert self._pool is not None
        call.done = get_running_loop().create_future()
        self._pool.submit(call)
        outcome = await call.done
        if type(outcome) is Answer or outcome is None:
            return outcome
        return await self._finish_on_loop(call, _identity, outcome)

    async def _finish_on_loop(
        self, call: Call, function: Callable[[Any], Awaitable[Any]], argument: Any
    ) -> Answer | None:
        token = CURRENT_OUTPUT.set(call.output)
        call.task = task = current_task()
        try:
            value = await function(argument)
            self._regain()
        except _Anything as error:
            self._regain()
            if call.settled:
                return None
            answer = handler_error(error, self._handler.file)
        else:
            answer = result_answer(value, self._max_result_bytes)
        finally:
            CURRENT_OUTPUT.reset(token)
            call.task = None
        # A handler may have cancelled its own task; the answer must still get out.
        while task is not None and task.uncancel():
            pass
        return answer

    def _run_in_thread(self, call: Call) -> Any:
        if call.settled:
            # It waited for a thread until nobody waited for it.
            return None
        CURRENT_OUTPUT.set(call.output)
        try:
            value = self._handler.call(call.payload)
            self._regain()
            if isawaitable(value):
                return value
            return result_answer(value, self._max_result_bytes)
        except _Anything as error:
            self._regain()
            return handler_error(error, self._handler.file)

    def _regain(self) -> None:
        """The handler has had its turn."""
        # A copy of this process made by the handler must not answer in its place.
        if getpid() != self._pid:
            _exit(0)
        end_tracing()
        self._put_back()


async def _identity(value: Awaitable[Any]) -> Any:
    return await value


class ThreadPool:
    """Threads that are started when needed, fed by a queue in C, and answer in batches."""

    def __init__(self, work: Callable[[Call], Any]) -> None:
        self._work = work
        self._loop = get_running_loop()
        self._queue: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._done: deque[tuple[Call, Any]] = deque()
        self._wake_sent = False
        self._threads = 0
        self._busy = 0
        threading.stack_size(THREAD_STACK_BYTES)
        self._start_thread()

    def submit(self, call: Call) -> None:
        self._busy += 1
        if self._busy > self._threads:
            self._start_thread()
        self._queue.put(call)

    def _start_thread(self) -> None:
        allow_one_more_stack(THREAD_STACK_BYTES)
        thread = threading.Thread(target=self._serve, name="faas-handler", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The process may have no more threads: those there are take the calls in turn.
            if self._threads == 0:
                raise
            return
        self._threads += 1

    def _serve(self) -> None:
        while True:
            call = self._queue.get()
            try:
                outcome = self._work(call)
            except _Anything:
                # What makes the answers is broken itself: the next runner does it better.
                _exit(EXIT_UNFIT)
            self._done.append((call, outcome))
            del call, outcome
            if not self._wake_sent:
                self._wake_sent = True
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Lowered first: a result that comes in meanwhile sends its own wake-up.
        self._wake_sent = False
        done = self._done
        while done:
            call, outcome = done.popleft()
            self._busy -= 1
            if call.done is not None and not call.done.done():
                call.done.set_result(outcome)
            elif iscoroutine(outcome):
                outcome.close()
