"""The calls one runner has in flight: how many may run, until when, and who waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any

from ..protocol import Heartbeat
from .results import Answer, handler_error, result_answer, result_answer_on_loop
from .streams import CallOutput

Send = Callable[[Any], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Call:
    """One request on its way through the handler."""

    payload: str
    limit_ms: int
    deadline_ns: int
    output: CallOutput
    send: Send
    #: It needs no answer any more: it has one, or nobody waits for it.
    settled: bool = False
    #: Its limit has passed; the handler may still be running.
    overdue: bool = False
    #: It runs on though nobody waits for it, and another may run in its place.
    lent: bool = False
    #: Cancels the coroutine that it is; None where it is a function in a thread.
    cancel: Callable[[], object] | None = None
    done: asyncio.Future[Any] | None = None
    timer: asyncio.TimerHandle | None = None

    def start(self, function: Any) -> Any:
        """Calls the handler. What comes of it may have to be awaited."""
        return function(self.payload)

    def answer(self, value: Any, max_bytes: int) -> Answer | None:
        """Of what the handler has returned; None: it has been sent."""
        return result_answer(value, max_bytes)

    def answer_on_loop(self, value: Any, max_bytes: int) -> Awaitable[Answer | None]:
        return result_answer_on_loop(value, max_bytes)

    def failed(self, error: BaseException, file: str | None) -> Answer | None:
        return handler_error(error, file)

    @property
    def is_complete(self) -> bool:
        """Its answer has been sent."""
        return False

    def take_waited_ns(self) -> int:
        """How long, since it was last asked, it waited for its answer to be read."""
        return 0


class CallTable:
    """Bounds the calls that run at once and tells the supervisor about them."""

    def __init__(self, concurrency: int, heartbeat: Heartbeat) -> None:
        self.running: set[Call] = set()
        #: Those whose bodies are being read.
        self._read: set[Call] = set()
        self._free = concurrency
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._heartbeat = heartbeat
        # Those that wait, and those whose turn has come and that haven't noticed yet.
        self._arriving = 0
        self._latest_ns = 0
        self._leaves_abandoned = False
        self.on_empty: Callable[[], object] | None = None
        self.last_start_ns = monotonic_ns()

    @contextmanager
    def reading(self, call: Call) -> Iterator[None]:
        """While its body arrives, which may take a while, its runner must not leave."""
        self._read.add(call)
        self.refresh()
        try:
            yield
        finally:
            self._read.discard(call)
            self.refresh()

    def enter(self, call: Call) -> bool:
        """False: it must wait its turn."""
        if self._free == 0:
            return False
        self._free -= 1
        self._begin(call)
        return True

    async def enter_in_turn(self, call: Call) -> None:
        """When one of those that run has left, and the others that wait have had their turn."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._arriving += 1
        try:
            await turn
        except asyncio.CancelledError:
            self._arriving -= 1
            if turn.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(turn)
            else:
                self._release()
            self.note_if_empty()
            raise
        self._arriving -= 1
        self._begin(call)

    def _release(self) -> None:
        """Who waits has the slot from now on, so that nobody who comes meanwhile gets it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _begin(self, call: Call) -> None:
        self.running.add(call)
        self.last_start_ns = monotonic_ns()
        if call.deadline_ns > self._latest_ns:
            self._latest_ns = call.deadline_ns
        self._tell()

    def leave(self, call: Call) -> None:
        self.running.discard(call)
        if not call.lent:
            self._release()
        if not self.running and not self._read:
            self._latest_ns = 0
        self._tell()
        self.note_if_empty()

    def note_if_empty(self) -> None:
        if self.on_empty is not None and self.idle:
            self.on_empty()

    def lend_slot(self, call: Call) -> None:
        """A call that can't be ended no longer counts against the bound: others must get on."""
        if not call.lent:
            call.lent = True
            self._release()
        if self._leaves_abandoned:
            self.refresh()

    @property
    def abandoned(self) -> int:
        """Calls that nobody waits for and that can't be ended before their limit."""
        return sum(call.lent and not call.overdue for call in self.running)

    def leave_abandoned(self) -> None:
        """They end with their process, as soon as the others have finished."""
        self._leaves_abandoned = True
        self.refresh()

    def refresh(self) -> None:
        """The latest deadline of the calls that may still take their time."""
        live = [call.deadline_ns for call in self.running | self._read if not self._is_lost(call)]
        self._latest_ns = max(live, default=0)
        self._tell()

    def _tell(self) -> None:
        self._heartbeat.in_flight = len(self.running) + len(self._read)
        self._heartbeat.deadline_ns = self._latest_ns

    @property
    def idle(self) -> bool:
        """Nothing in flight that could still be answered."""
        return not (self._arriving or self._read) and all(map(self._is_lost, self.running))

    def _is_lost(self, call: Call) -> bool:
        return call.overdue or (call.lent and self._leaves_abandoned)
