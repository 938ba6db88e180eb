"""The process that loads the handler and answers; what goes wrong in here stays in here."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import socket
import sys
import time
from asyncio import all_tasks
from collections.abc import Callable
from os import _exit
from time import monotonic_ns
from typing import Any

import uvloop

from .. import system
from ..pulse import NoticeBoard, Pulse
from ..settings import Settings
from ..supervisor.reports import EXIT_UNFIT
from ..supervisor.standby import take_over
from ..supervisor.watching import LINGER_SECONDS
from .app import FunctionApp
from .calls import Call, CallTable
from .console import take_over_streams
from .fitness import Fitness, warm_up
from .forking import ForkWatch, ignore_signals, keep_ignoring_signals
from .fullness import Fullness
from .invoking import Invoker
from .loading import Handler, HandlerNotLoadable, load_handler, report_line
from .restoring import SharedNames, Streams
from .server import Server
from .threads import THREAD_STACK_BYTES

BEAT_SECONDS = 0.04
RESTING_BEAT_SECONDS = 0.5
_ACTIVE_SECONDS = 5.0
# Looking for damage touches thousands of objects, which is most of what a beat costs. So it is done
# at every one while handler code runs and until what it did must have shown; else now and then.
_AFTERMATH_SECONDS = 0.25
_LOOK_SECONDS = 0.5
# After a drain was asked for, calls already in the backlog are still run.
_BACKLOG_SECONDS = 0.02
# What a caller that has just connected needs to send its request. In several turns of the loop:
# a process that wasn't running in all that time has read nothing of what has arrived.
_ARRIVING_TURNS = 6
_ARRIVING_TURN_SECONDS = 0.005
# A busy manager hears late that a worker leaves; on a connection that it has kept it may call until
# then, and what is sent into a closing one counts as cut off.
_HEARSAY_SECONDS = 1.0
_FLUSH_SECONDS = 0.2
_LINGER_LOOK_SECONDS = 0.01
# What a successor and its supervisor need beside the threads of its calls.
_SPARE_TASKS = 16
# Of its slots, one in so many may be lent in place of calls whose callers have gone.
_ABANDONED_SHARE = 4
# A function that has less than this does not lack what its last call could not get.
_FULL_SHARE = 0.5
# Noted once, before the first runner is forked.
_SHARED_NAMES = SharedNames()


class Runner:
    def __init__(
        self,
        settings: Settings,
        number: int,
        listener: socket.socket,
        channel: socket.socket,
        pulse: Pulse,
        board: NoticeBoard,
        mark: str,
    ) -> None:
        """`mark`: see `RunnerOutput`."""
        self.settings = settings
        self.number = number
        self.listener = listener
        self.channel = channel
        self.pulse = pulse
        self.board = board
        self.mark = mark
        self.pid = os.getpid()
        self.resting = False
        self.leaving = False
        # Nobody comes after it: what still gets here has to be told so.
        self.is_last = False
        self.beat_timer: asyncio.TimerHandle | None = None
        self.busy_ns = 0
        self.looked_ns = 0

    def run(self, handover: int | None = None) -> None:
        """`handover`: where the function is read from that isn't known yet."""
        self.set_up()
        if handover is not None:
            self.loop.run_until_complete(warm_up(self.server.connect_itself))
            self.settings = take_over(handover)
        handler = self.load()
        self.channel.setblocking(True)
        self.channel.send(b"loaded")
        # The first of a worker has nobody to wait for.
        if handover is None and self.channel.recv(64) != b"go":
            self.leave(0)
        self.channel.setblocking(False)
        self.loop.run_until_complete(self.serve(handler))
        while True:
            # A handler's own task may stop the loop: by stop(), sys.exit() or KeyboardInterrupt.
            with contextlib.suppress(BaseException):
                self.loop.run_forever()
            self.leave_if_forked()
            # What ended it may have struck anywhere.
            self.loop.call_soon(self.beat)

    def set_up(self) -> None:
        """All that is the same for every function."""
        os.setsid()
        system.be_a_runner()
        system.die_with_parent()
        system.prefer_as_oom_victim()
        ignore_signals()
        self.sinks = take_over_streams(self.mark)
        sys.dont_write_bytecode = True
        random.seed()
        _SHARED_NAMES.put_back()
        self.loop = uvloop.new_event_loop()
        self.app = FunctionApp(
            self.settings,
            self.loop,
            self.pulse,
            self.board,
            self.number,
            self.sinks,
            self.on_stuck,
            self.on_abandoned,
        )
        self.app.on_start = self.wake
        self.app.look_at_what_is_kept = lambda: self.leave_if_much_is_kept(ending=1)
        self.server = Server(self.app, self.listener, self.number)
        self.own_threads = system.count_threads()

    def load(self) -> Handler:
        self.spare = self.settings.concurrency // _ABANDONED_SHARE
        threads = self.settings.concurrency + self.spare
        self.fullness = Fullness(self.settings)
        self.most_threads = self._most_threads(threads)
        system.apply_limits(self.settings, threads * THREAD_STACK_BYTES)
        try:
            handler = load_handler(self.settings.handler, self.settings.app_dir, self.settings.code)
        except HandlerNotLoadable as error:
            self.channel.setblocking(True)
            self.channel.send(report_line(error.failure))
            self.leave(65)
        _SHARED_NAMES.handler_is_loaded()
        asyncio.set_event_loop(self.loop)
        return handler

    def _most_threads(self, own: int) -> float:
        """As many as leave room for its successor."""
        if os.getppid() != 1:
            return math.inf
        known = [most for most in (system.most_tasks(), self.settings.most_tasks) if most]
        return max(min(known) - own - _SPARE_TASKS, own + _SPARE_TASKS) if known else math.inf

    async def serve(self, handler: Handler) -> None:
        self.calls = CallTable(self.settings.concurrency, self.pulse)
        self.streams = Streams()
        self.invoker = Invoker(handler, self.settings.max_result_bytes, self.put_back)
        self.forks = ForkWatch(
            lambda: [*self.server.descriptors(), self.channel.fileno()], self.tell
        )
        self.app.begin(self.settings, self.invoker, self.calls, self.forks)
        fds = self.listener.fileno(), self.channel.fileno()
        self.fitness = Fitness(self.server.connect_itself, _SHARED_NAMES.repairs, *fds)
        self.loop.add_reader(self.channel.fileno(), self.on_order)
        await self.server.start()
        # What looks for damage comes after the calls that wait.
        self.pulse.beat(monotonic_ns())
        self.beat_timer = self.loop.call_later(BEAT_SECONDS, self.beat)

    def put_back(self) -> None:
        _SHARED_NAMES.put_back()
        self.streams.put_back()
        if self.fitness.limits_may_differ:
            self.leave_if_limited()

    def beat(self) -> None:
        if self.beat_timer is not None:
            self.beat_timer.cancel()
        self.leave_if_forked()
        if not self.resting and not self.leaving and self.is_to_look():
            self.leave_if_unfit()
            self.leave_if_much_is_kept()
        now = monotonic_ns()
        self.pulse.beat(now)
        self.calls.refresh()
        self.invoker.look_after()
        self.leave_if_full()
        if system.count_threads() > self.most_threads:
            # A call that heard of its end first might be followed by one that is lost with it.
            self.tell(b"crowded")
        idle_ns = now - self.calls.last_start_ns
        self.resting = not self.calls.running and idle_ns > _ACTIVE_SECONDS * 1e9
        self.pulse.rest(self.resting)
        self.forks.report()
        pause = RESTING_BEAT_SECONDS if self.resting else BEAT_SECONDS
        self.beat_timer = self.loop.call_later(pause, self.beat)

    def is_to_look(self) -> bool:
        """Handler code runs in calls, and afterwards in what they have left behind."""
        with contextlib.suppress(BaseException):
            now = monotonic_ns()
            if self.calls.running or self.has_company():
                self.busy_ns = now
            quiet_ns = now - max(self.busy_ns, self.calls.last_start_ns)
            unseen_ns = now - self.looked_ns
            if (
                quiet_ns > _AFTERMATH_SECONDS * 1e9
                and unseen_ns < _LOOK_SECONDS * 1e9
                and self.fitness.is_settled
            ):
                return False
            self.looked_ns = now
        return True

    def has_company(self) -> bool:
        """Threads or tasks that are none of its own; or it can't tell any more."""
        own = self.own_threads + self.invoker.threads
        return bool(all_tasks(self.loop)) or not 0 < system.count_threads() <= own

    def wake(self) -> None:
        if self.resting:
            self.resting = False
            self.calls.last_start_ns = monotonic_ns()
            self.beat()
            self.tell(b"awake")

    def tell(self, message: bytes) -> None:
        with contextlib.suppress(OSError):
            self.channel.send(message)

    def on_order(self) -> None:
        try:
            order = self.channel.recv(64)
        except BlockingIOError:
            return
        except OSError:
            order = b""
        if order == b"settled":
            self.forks.settled()
        elif order == b"drain":
            self.is_last = True
            self.drain()
        elif order == b"retire":
            self.retire()
        elif order == b"linger":
            self.linger()
        elif not order:
            self.leave(0)

    def on_stuck(self, call: Call) -> None:
        """A call that can't be ended: the next runner takes over at once."""
        self.calls.lend_slot(call)
        self.calls.refresh()
        if not self.leaving:
            self.tell(b"stuck %d" % call.limit_ms)
            self.retire()
        self.calls.note_if_empty()

    def on_abandoned(self, call: Call) -> None:
        """Its slot goes to others; a runner that has many such calls to its successor."""
        self.calls.lend_slot(call)
        abandoned = self.calls.abandoned
        if abandoned > self.spare and not self.leaving:
            self.calls.leave_abandoned()
            self.tell(b"abandoned %d" % abandoned)
            self.linger()

    def begin_to_leave(self) -> bool:
        """False when it has begun before."""
        if self.leaving:
            return False
        self.leaving = self.app.closing = True
        self.fitness.stop()
        return True

    def retire(self) -> None:
        """Requests that are on their way already are still served, then no more."""
        if not self.begin_to_leave():
            return
        self.server.stop_accepting()
        self.after_arrivals(self.close_down)

    def drain(self) -> None:
        """Serves its callers until they have let go or have had the time to hear that it leaves."""
        if not self.begin_to_leave():
            return
        latest = time.monotonic() + _HEARSAY_SECONDS
        self.loop.call_later(
            _BACKLOG_SECONDS, self.after_arrivals, lambda: self.close_down_when_unused(latest)
        )

    def after_arrivals(self, then: Callable[[], None], turns: int = _ARRIVING_TURNS) -> None:
        """What has got here by now is read first."""
        if turns > 0:
            self.loop.call_later(_ARRIVING_TURN_SECONDS, self.after_arrivals, then, turns - 1)
        else:
            then()

    def linger(self) -> None:
        """Serves its callers until they have all let go: requests may be on their way already."""
        if not self.begin_to_leave():
            return
        self.server.stop_accepting()
        latest = time.monotonic() + LINGER_SECONDS
        self.after_arrivals(lambda: self.close_down_when_unused(latest))

    def close_down_when_unused(self, latest: float) -> None:
        if self.server.connections and time.monotonic() < latest:
            self.loop.call_later(_LINGER_LOOK_SECONDS, self.close_down_when_unused, latest)
        else:
            self.close_down()

    def close_down(self) -> None:
        self.app.draining = True
        # A manager that has yet to hear of it may still come. Left in the backlog its request would
        # be cut off when the worker ends, and then nobody could tell that no handler was called.
        if not self.is_last:
            self.server.stop_accepting()
        self.server.close_idle_connections()
        self.calls.on_empty = lambda: self.loop.call_later(0.002, self.leave_when_flushed, 100)
        self.calls.note_if_empty()

    def leave_when_flushed(self, turns: int) -> None:
        """The last answers may still be in a socket's buffer."""
        busy = self.app.background or self.server.connections
        if busy and turns > 0:
            self.loop.call_later(0.005, self.leave_when_flushed, turns - 1)
            return
        if self.is_last:
            # For the supervisor's copy too: whoever comes now is refused, and goes elsewhere.
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
        self.leave(0)

    def leave(self, status: int) -> Any:
        for sink in self.sinks:
            sink.flush(_FLUSH_SECONDS)
        _exit(status)

    def leave_if_unfit(self) -> None:
        with contextlib.suppress(BaseException):
            _SHARED_NAMES.put_back_all()
            keep_ignoring_signals()
            if self.fitness.check():
                return
        _exit(EXIT_UNFIT)

    def leave_if_limited(self) -> None:
        """What a call has lowered must not fail the next one."""
        with contextlib.suppress(BaseException):
            if self.fitness.puts_limits_back():
                return
        _exit(EXIT_UNFIT)

    def leave_if_full(self) -> None:
        """What a call has kept after it ran out of memory would fail the calls after it."""
        if not self.invoker.ran_out_of_memory or self.leaving:
            return
        self.invoker.ran_out_of_memory = False
        if system.share_of_memory() > _FULL_SHARE:
            self.tell(b"full")
            self.retire()

    def leave_if_much_is_kept(self, ending: int = 0) -> None:
        """What a call has kept, in this process or outside of it, would fail the calls after it.
        `ending`: so many of those that run have nothing to do any more."""
        with contextlib.suppress(BaseException):
            in_use = len(self.calls.running) > ending
            if not self.leaving and (kept := self.fullness.found(in_use=in_use)):
                self.tell(b"kept " + kept)
                self.retire()

    def leave_if_forked(self) -> None:
        if os.getpid() != self.pid:
            _exit(0)
