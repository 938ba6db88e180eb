"""Calls the handler: coroutines on the loop, functions on threads, both within their limit."""

from __future__ import annotations

from asyncio import current_task, get_running_loop, sleep
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from os import _exit, getpid
from typing import Any

from .calls import Call
from .console import CURRENT_OUTPUT
from .loading import Handler
from .restoring import end_tracing
from .results import Answer, handler_error, result_answer, result_answer_on_loop
from .threads import ThreadPool

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
        #: A call has, since this was last looked at.
        self.ran_out_of_memory = False
        self._pool = None if handler.is_async else ThreadPool(self._run_in_thread)
        self.answer: Callable[[Call], Awaitable[Answer | None]] = (
            self._answer_on_loop if self._pool is None else self._answer_from_pool
        )

    @property
    def threads(self) -> int:
        """Of the pool."""
        return 0 if self._pool is None else self._pool.size

    def look_after(self) -> None:
        """To be done now and then: makes up for what a handler has done to the pool's threads."""
        if self._pool is not None:
            self._pool.look_after()

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
            # What it has left on the loop gets its turn, and blocks this call if it blocks one.
            await sleep(0)
            self._regain()
            answer = await result_answer_on_loop(value, self._max_result_bytes)
        except _Anything as error:
            self._regain()
            if call.settled:
                return None
            answer = self._failed(error)
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
            return self._failed(error)

    def _failed(self, error: BaseException) -> Answer:
        if isinstance(error, MemoryError):
            self.ran_out_of_memory = True
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
