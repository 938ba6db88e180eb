"""Calls the handler: coroutines on the loop, functions on threads, each in a context of its own."""

from __future__ import annotations

import sys
import threading
from _thread import start_new_thread as _start_new_thread
from asyncio import AbstractEventLoop, current_task, sleep
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import Context, copy_context
from inspect import isawaitable, iscoroutine
from os import _exit, getpid
from queue import SimpleQueue
from typing import Any

from ..protocol import Exit
from .calls import Call
from .failures import describe
from .http import HttpCall
from .loading import Handler
from .results import Answer, worker_draining
from .streams import CURRENT_OUTPUT, Streams

_Anything = BaseException


class Invoker:
    """`answer(call)` runs the handler for one call and returns what to send."""

    def __init__(
        self,
        handler: Handler,
        context: Context,
        loop: AbstractEventLoop,
        max_result_bytes: int,
    ) -> None:
        """`context`: as loading the handler's file has left it. Every call runs in a copy."""
        self._handler = handler
        self._context = context
        self._loop = loop
        self._max_result_bytes = max_result_bytes
        self._pid = getpid()
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._done: deque[tuple[Call, Any]] = deque()
        self._wake_sent = False
        self._busy = 0
        #: Threads that run calls.
        self.threads = 0
        #: Of the main thread, where only that one runs calls.
        self.main_loop: AbstractEventLoop | None = None
        self.answer: Callable[[Call], Awaitable[Answer | None]] = (
            self._answer_on_loop if handler.is_async else self._answer_from_thread
        )

    def _answer_on_loop(self, call: Call) -> Awaitable[Answer | None]:
        # The request's own task has a copy of the context already: the server was started in it.
        CURRENT_OUTPUT.set(call.output)
        return self._finish_on_loop(call, call.start, self._handler.call)

    async def _answer_from_thread(self, call: Call) -> Answer | None:
        if self.main_loop is not None and self._busy:
            # It can't be ended, and no other thread may run calls.
            return worker_draining()
        call.done = self._loop.create_future()
        self._busy += 1
        if self._busy > self.threads:
            self.start_thread()
        self._calls.put(call)
        outcome = await call.done
        if outcome is None or isinstance(outcome, Answer):
            return outcome
        awaitable, context = outcome
        task = self._finish_on_loop(call, _identity, awaitable)
        return await self._loop.create_task(task, context=context)

    async def _finish_on_loop(
        self, call: Call, function: Callable[[Any], Any], argument: Any
    ) -> Answer | None:
        task = current_task()
        call.cancel = task.cancel if task else None
        try:
            value = function(argument)
            if isawaitable(value):
                value = await value
            # What it has left on the loop gets its turn, and blocks this call if it blocks one.
            await sleep(0)
            answer = await call.answer_on_loop(value, self._max_result_bytes)
        except _Anything as error:
            self._end_copy(error)
            answer = None if call.settled else call.failed(error, self._handler.file)
        finally:
            call.cancel = None
        self._end_copy()
        Streams.flush()
        # A handler may have cancelled its own task; the answer must still get out.
        while task is not None and task.uncancel():
            pass
        return answer

    # Threads

    def start_thread(self) -> None:
        """Where there may be no more, those there are take the calls in turn."""
        try:
            start_thread(self.run_calls, "faas-handler")
            self.threads += 1
        except RuntimeError:
            if not self.threads:
                raise

    def run_calls(self) -> None:
        """Until told to end. What strikes outside of the handler ends the process: the next runner
        is better than a repaired one."""
        try:
            while (call := self._calls.get()) is not None:
                outcome = self._context.copy().run(self._run, call)
                self._done.append((call, outcome))
                # Or they would be kept until the next call.
                del call, outcome
                if not self._wake_sent:
                    self._wake_sent = True
                    self._loop.call_soon_threadsafe(self._deliver)
        except _Anything:
            _exit(Exit.UNFIT)

    def end_thread(self) -> None:
        self._calls.put(None)

    def _run(self, call: Call) -> Any:
        if call.settled:
            # It waited for a thread until nobody waited for it.
            return None
        CURRENT_OUTPUT.set(call.output)
        try:
            value = call.start(self._handler.call)
            if isinstance(call, HttpCall) and self.main_loop is not None:
                call.in_turn = self._in_turn
            elif isinstance(call, HttpCall) and call.is_for_loop(value):
                return value, copy_context()
            if isawaitable(value):
                if self.main_loop is None:
                    return value, copy_context()
                value = self._run_in_main_thread(call, value)
            return call.answer(value, self._max_result_bytes)
        except _Anything as error:
            self._end_copy(error)
            return call.failed(error, self._handler.file)
        finally:
            self._end_copy()
            Streams.flush()

    def _run_in_main_thread(self, call: Call, value: Awaitable[Any]) -> Any:
        loop = self.main_loop
        # The file may run its thread's loop elsewhere, or have closed it.
        if loop is None or loop.is_closed() or loop.is_running():
            loop = self.main_loop = type(self._loop)()
        task = loop.create_task(_awaited(value), context=copy_context())
        call.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            return loop.run_until_complete(task)
        finally:
            call.cancel = None

    def _in_turn(self, call: Call, values: AsyncIterator[Any]) -> Iterator[Any]:
        """In the thread that has called the handler."""
        try:
            with suppress(StopAsyncIteration):
                while True:
                    yield self._run_in_main_thread(call, anext(values))
        finally:
            close = getattr(values, "aclose", None)
            if close is not None:
                self._run_in_main_thread(call, close())

    def _deliver(self) -> None:
        # Lowered first: a result that comes in meanwhile sends its own wake-up.
        self._wake_sent = False
        done = self._done
        while done:
            call, outcome = done.popleft()
            self._busy -= 1
            if call.done is not None and not call.done.done():
                call.done.set_result(outcome)
            elif type(outcome) is tuple and iscoroutine(outcome[0]):
                outcome[0].close()

    def _end_copy(self, error: BaseException | None = None) -> None:
        """A copy of this process made by the handler must not answer in its place. It ends as a
        Python process ends."""
        if getpid() == self._pid:
            return
        status: object = 0 if error is None else 1
        with suppress(_Anything):
            if isinstance(error, SystemExit):
                status = 0 if error.code is None else error.code
            elif error is not None:
                print(describe(error, self._handler.file).traceback, end="", file=sys.stderr)
            if not isinstance(status, int):
                print(status, file=sys.stderr)
        Streams.flush()
        _exit(status & 0xFF if isinstance(status, int) else 1)


def start_thread(target: Callable[[], None], name: str) -> None:
    if "gevent.monkey" in sys.modules:
        # There `threading` may make no threads of the system's any more.
        _start_new_thread(target, ())
    else:
        threading.Thread(target=target, name=name, daemon=True).start()


def _identity(value: Any) -> Any:
    return value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
