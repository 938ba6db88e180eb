"""The calls one runner has in flight: how many may run, until when, and who waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic_ns
from typing import Any

from ..protocol import Heartbeat
from .streams import CallOutput

Send = Callable[[Any], Awaitable[None]]


class Call:
    """One request on its way through the handler.

    `settled` means that it needs no answer any more: it has one, or nobody waits for it.
    `overdue` means that its limit has passed; the handler may still be running.
    `lent` means that it runs on though nobody waits for it, and another may run in its place.
    """

    __slots__ = (
        "deadline_ns",
        "done",
        "lent",
        "limit_ms",
        "output",
        "overdue",
        "payload",
        "send",
        "settled",
        "task",
        "timer",
    )

    def __init__(
        self, payload: str, limit_ms: int, started_ns: int, output: CallOutput, send: Send
    ) -> None:
        self.payload = payload
        self.limit_ms = limit_ms
        self.deadline_ns = started_ns + limit_ms * 1_000_000
        self.output = output
        self.send = send
        self.settled = False
        self.overdue = False
        self.lent = False
        self.task: asyncio.Task[Any] | None = None
        self.done: asyncio.Future[Any] | None = None
        self.timer: asyncio.TimerHandle | None = None


class CallTable:
    """Bounds the calls that run at once and tells the supervisor about them."""

    def __init__(self, concurrency: int, heartbeat: Heartbeat) -> None:
        self.running: set[Call] = set()
        self._concurrency = concurrency
        self._heartbeat = heartbeat
        self._waiting: deque[asyncio.Future[None]] = deque()
        # Those that wait, and those whose turn has come and that haven't noticed yet.
        self._arriving = 0
        self._latest_ns = 0
        self._leaves_abandoned = False
        self.on_empty: Callable[[], object] | None = None
        self.last_start_ns = monotonic_ns()

    def enter(self, call: Call) -> bool:
        """False when the call must wait its turn."""
        if len(self.running) >= self._concurrency:
            return False
        self.running.add(call)
        self.last_start_ns = monotonic_ns()
        if call.deadline_ns > self._latest_ns:
            self._latest_ns = call.deadline_ns
        self._tell()
        return True

    async def wait_turn(self, call: Call) -> None:
        """Returns once the call has entered."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._arriving += 1
        try:
            await turn
            while not self.enter(call):
                turn = asyncio.get_running_loop().create_future()
                self._waiting.appendleft(turn)
                await turn
        finally:
            self._arriving -= 1
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif call not in self.running:
                self._admit_next()
            self.note_if_empty()

    def leave(self, call: Call) -> None:
        self.running.discard(call)
        if call.lent:
            self._concurrency -= 1
        if not self.running:
            self._latest_ns = 0
        self._tell()
        if self._waiting:
            self._admit_next()
        self.note_if_empty()

    def note_if_empty(self) -> None:
        if self.on_empty is not None and self.idle:
            self.on_empty()

    def lend_slot(self, call: Call) -> None:
        """A call that can't be ended no longer counts against the bound: others must get on."""
        if not call.lent:
            call.lent = True
            self._concurrency += 1
            self._admit_next()
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
        live = [call.deadline_ns for call in self.running if not self._is_lost(call)]
        self._latest_ns = max(live, default=0)
        self._tell()

    def _tell(self) -> None:
        self._heartbeat.in_flight = len(self.running)
        self._heartbeat.deadline_ns = self._latest_ns

    @property
    def idle(self) -> bool:
        """Nothing in flight that could still be answered."""
        return not self._arriving and all(map(self._is_lost, self.running))

    def _is_lost(self, call: Call) -> bool:
        return call.overdue or (call.lent and self._leaves_abandoned)

    def _admit_next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
