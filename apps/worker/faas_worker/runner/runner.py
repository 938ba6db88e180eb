"""A runner: the process that loads the handler and answers calls. Nothing in here is shared with
other runners, and whatever a handler breaks in here stays in here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from os import _exit
from time import monotonic_ns
from typing import Any

import uvloop

from .. import confidential, system
from ..protocol import (
    LINGER_SECONDS,
    Exit,
    Heartbeat,
    Kind,
    News,
    Notice,
    Order,
    Reason,
    pack,
    unpack_order,
)
from ..settings import Settings
from .app import FunctionApp
from .asgi import Lifespan, LifespanFailed
from .calls import Call, CallTable
from .failures import MESSAGE_CHARS, Failure, cut
from .forks import MAKING_PROCESSES, Forks, ignore_signals
from .health import SETTING_LIMITS, Health, warm_up
from .invoker import Invoker, start_thread
from .layer import is_lost, take_layer
from .loading import Handler, HandlerNotLoadable, load_handler, report_line
from .server import Server
from .streams import Streams

#: What handlers may import from here.
_OFFERED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "offered")
BEAT_SECONDS = 0.04
RESTING_BEAT_SECONDS = 0.5
# Since its last call began. Looking 25 times a second takes a twentieth of a processor, with what
# the supervisor does meanwhile: not to be spent on each function that has just been woken.
_ACTIVE_SECONDS = 0.1
# What a call has left behind may still do damage.
_WATCHED_SECONDS = 5.0
# What a caller that has just connected needs to send its request, and calls in the backlog. In
# turns of the loop: a process that wasn't running in all that time has read nothing.
_ARRIVING_TURNS = 10
_FLUSHING_TURNS = 100
# Nobody waits for the last one of a worker, and a busy manager sends long after it has connected.
_LAST_TURNS = 1000
_TURN_SECONDS = 0.005
# For what an application does after its last call.
_SHUTDOWN_SECONDS = 1.0
# Of its slots, one in so many may be lent in place of calls whose callers have gone.
_ABANDONED_SHARE = 4
# Less than a call needs to use up what the calls after it need.
_LONG_NS = 5_000_000
_Anything = BaseException


@dataclass(eq=False)
class Runner:
    settings: Settings
    number: int
    listener: socket.socket
    channel: socket.socket
    heartbeat: Heartbeat
    notice: Notice
    #: See `RunnerOutput`.
    mark: str
    resting: bool = False
    leaving: bool = False
    #: Nobody comes after it: what still gets here has to be told so.
    is_last: bool = False
    beat_timer: asyncio.TimerHandle | None = None
    #: Or nothing would keep the task.
    ending: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.pid = os.getpid()
        self.kind = Kind.PAYLOAD
        #: Of an ASGI application.
        self.lifespan: Lifespan | None = None
        self.state: dict[str, Any] = {}

    def run(self, function: Callable[[socket.socket], Settings] | None = None) -> None:
        """`function`: waits for the function that isn't known yet. Does not return."""
        self.set_up()
        if function is not None:
            try:
                self.rehearse()
            except BaseException:
                # Half of it would go on beside the function's calls. Not by an exit of its own,
                # which would say that the function can't be loaded; another runner takes its place.
                os.kill(self.pid, signal.SIGKILL)
            self.settings = function(self.channel)
        if self.settings.event_loop == "asyncio":
            self.loop.close()
            self.loop = self.new_event_loop()
        asyncio.set_event_loop(self.loop)
        handler = self.load()
        self.kind = handler.kind
        self.leave_if_forked()
        context = copy_context()
        self.streams.keep()
        self.channel.setblocking(True)
        self.channel.send(pack(News.LOADED))
        # The first of a worker has nobody to wait for.
        if function is None and unpack_order(self.channel.recv(64)) is not Order.SERVE:
            self.leave(Exit.DONE)
        self.channel.setblocking(False)
        # The thread that has loaded the file is the handler's, where there can be no other one.
        is_handlers_thread = self.settings.concurrency == 1 and not handler.is_async
        own_loop = self.loop
        if is_handlers_thread:
            # The loop that this thread has stays the handler's own.
            self.loop = self.new_event_loop()
        invoker = Invoker(handler, context, self.loop, self.settings.max_result_bytes)
        if is_handlers_thread:
            invoker.threads, invoker.main_loop = 1, own_loop
            start_thread(lambda: self.serve(invoker), "faas-server")
            invoker.run_calls()
        elif not handler.is_async:
            invoker.start_thread()
        self.serve(invoker)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        if self.settings.event_loop == "asyncio":
            return asyncio.new_event_loop()
        return uvloop.new_event_loop()

    def set_up(self) -> None:
        """All that is the same for every function."""
        os.setsid()
        system.be_a_runner()
        system.die_with_parent()
        system.prefer_as_oom_victim()
        ignore_signals()
        self.streams = Streams(self.mark)
        sys.dont_write_bytecode = True
        sys.argv[1:] = []
        random.seed()
        self.loop = uvloop.new_event_loop()
        self.app = FunctionApp(self)
        self.server = Server(self.app, self.listener, self.number)
        self.forks = Forks(
            lambda: [*self.server.descriptors(), self.channel.fileno()],
            lambda: self.tell(News.FORKS),
        )

    def rehearse(self) -> None:
        """Loads a function of its own and answers calls of its own making: what a first call needs
        has been used before, so that its memory is there and is this process's."""
        handler = load_handler("faas_rehearsal.handle", "/", b"def handle(payload): return payload")
        del sys.path[0], sys.meta_path[0], sys.modules["faas_rehearsal"]
        invoker = Invoker(handler, copy_context(), self.loop, self.settings.max_result_bytes)
        self.kind = handler.kind
        invoker.threads = 1
        # It ends before the function's file is loaded, which may want to be alone in its process.
        thread = threading.Thread(target=invoker.run_calls, name="faas-rehearsal", daemon=True)
        thread.start()
        self.prepare(invoker)
        self.loop.run_until_complete(warm_up(self.server.connect_itself))
        invoker.end_thread()
        thread.join()
        self.heartbeat.good = 0

    def load(self) -> Handler:
        system.apply_limits(self.settings)
        confidential.hide(os.environ, self.settings.secrets_dir)
        if is_lost(self.settings.layer):
            # The supervisor says why.
            return self.leave(Exit.UNFIT)
        if self.settings.layer is not None:
            take_layer(self.settings.layer)
        # Last: what the function brings along by the same name counts.
        sys.path.append(_OFFERED)
        settings = self.settings
        self.heartbeat.has_begun = 1
        try:
            handler = load_handler(settings.handler, settings.app_dir, settings.code, settings.kind)
            if handler.kind is Kind.ASGI:
                self.start_application(handler)
            return handler
        except HandlerNotLoadable as error:
            self.channel.setblocking(True)
            self.channel.send(pack(News.NOT_LOADABLE, report_line(error.failure).decode()))
            return self.leave(Exit.NOT_LOADABLE)

    def start_application(self, handler: Handler) -> None:
        """Raises HandlerNotLoadable."""
        self.lifespan = Lifespan(handler.call, self.loop)
        try:
            self.loop.run_until_complete(self.lifespan.start())
        except LifespanFailed as error:
            failure = Failure("LifespanFailed", cut(str(error), MESSAGE_CHARS), "")
            raise HandlerNotLoadable(failure) from None
        self.state = self.lifespan.state

    def serve(self, invoker: Invoker) -> None:
        """Does not return."""
        try:
            # Begins and serves in one run of the loop: uvloop needs free descriptors for each run,
            # and the first calls may use them up.
            self.loop.create_task(self.begin(invoker)).add_done_callback(self.leave_unless_begun)
            while True:
                try:
                    # A handler's own task may stop the loop: by stop(), sys.exit() or Ctrl-C.
                    with contextlib.suppress(SystemExit, KeyboardInterrupt):
                        self.loop.run_forever()
                finally:
                    self.leave_if_forked()
                # What ended it may have struck anywhere.
                self.loop.call_soon(self.beat)
        finally:
            # It is the loop itself that has failed, and nothing that runs on it.
            _exit(Exit.UNFIT)

    def prepare(self, invoker: Invoker) -> None:
        """All that calls of a function need."""
        concurrency = self.settings.concurrency
        self.spare = concurrency // _ABANDONED_SHARE
        self.invoker = invoker
        self.calls = CallTable(concurrency, self.heartbeat)
        fds = self.listener.fileno(), self.channel.fileno()
        threads = concurrency + self.spare
        self.health = Health(self.settings, self.server.connect_itself, fds, threads)
        self.app.begin()

    async def begin(self, invoker: Invoker) -> None:
        self.prepare(invoker)
        sys.addaudithook(self.on_event)
        self.loop.add_reader(self.channel.fileno(), self.on_order)
        await self.server.start()
        # What looks for damage comes after the calls that wait.
        self.heartbeat.beat_ns = monotonic_ns()
        self.beat_timer = self.loop.call_later(BEAT_SECONDS, self.beat)

    def leave_unless_begun(self, beginning: asyncio.Task[None]) -> None:
        if beginning.cancelled() or beginning.exception() is not None:
            _exit(Exit.UNFIT)

    # Looking after itself

    def on_event(self, event: str, _arguments: object) -> None:
        if event in MAKING_PROCESSES:
            self.forks.note()
        elif event in SETTING_LIMITS:
            self.health.has_set_limits = True

    def beat(self) -> None:
        try:
            self.leave_if_forked()
            if not (self.resting and self.idle_seconds > _WATCHED_SECONDS) and not self.leaving:
                in_use = bool(self.calls.running)
                if reason := self.health.look(in_use=in_use):
                    self.retire(reason)
                elif not self.health.answers():
                    _exit(Exit.UNFIT)
                if reason is Reason.THREADS and in_use:
                    # There is no room for another runner beside it.
                    self.leave(Exit.UNFIT)
            self.calls.refresh()
            self.resting = not self.calls.running and self.idle_seconds > _ACTIVE_SECONDS
            self.note_beat()
        except _Anything:
            # What it is made of is broken.
            _exit(Exit.UNFIT)

    def note_beat(self) -> None:
        self.heartbeat.beat_ns = monotonic_ns()
        self.heartbeat.is_resting = self.resting
        if self.beat_timer is not None:
            self.beat_timer.cancel()
        pause = RESTING_BEAT_SECONDS if self.resting else BEAT_SECONDS
        self.beat_timer = self.loop.call_later(pause, self.beat)

    @property
    def idle_seconds(self) -> float:
        """Since the last call began."""
        return (monotonic_ns() - self.calls.last_start_ns) / 1e9

    def on_start(self) -> None:
        """A call begins."""
        if not self.resting:
            return
        try:
            was_watched = self.idle_seconds <= _WATCHED_SECONDS
            self.resting = False
            self.calls.last_start_ns = monotonic_ns()
            if was_watched:
                self.note_beat()
            else:
                self.beat()
            self.tell(News.AWAKE)
        except _Anything:
            _exit(Exit.UNFIT)

    async def after_forks(self) -> Reason | None:
        """For `after_call`, where the call may have made processes."""
        try:
            return await self.forks.settle(in_use=len(self.calls.running) > 1)
        except _Anything:
            return Reason.DAMAGED

    def after_call(self, started_ns: int, reason: Reason | None) -> None:
        """Before its answer: what a call has broken or kept must not fail those after it."""
        in_use = len(self.calls.running) > 1
        try:
            is_long = monotonic_ns() - started_ns > _LONG_NS
            look = self.health.look if is_long else self.health.after_call
            reason = reason or look(in_use=in_use)
        except _Anything:
            reason = Reason.DAMAGED
        if not in_use and not self.streams.put_back():
            reason = Reason.DAMAGED
        if reason:
            self.retire(reason)

    # The supervisor

    def tell(self, news: News, detail: str = "") -> None:
        with contextlib.suppress(OSError):
            self.channel.send(pack(news, detail))

    def on_order(self) -> None:
        try:
            message = self.channel.recv(64)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self.leave(Exit.DONE)
        order = unpack_order(message)
        if order is Order.DRAIN:
            self.is_last = True
            # A busy manager hears late, and calls until then.
            self.retire(None, LINGER_SECONDS)
        elif order is Order.RETIRE:
            self.retire(None)
        elif order is Order.LINGER:
            self.retire(None, LINGER_SECONDS)

    # Leaving

    def on_stuck(self, call: Call) -> None:
        """A call that can't be ended: the next runner takes over at once."""
        self.calls.lend_slot(call)
        self.calls.refresh()
        self.retire(Reason.OVERDUE)
        self.calls.note_if_empty()

    def on_abandoned(self, call: Call) -> None:
        """Its slot goes to others; a runner that has many such calls to its successor."""
        self.calls.lend_slot(call)
        if self.calls.abandoned > self.spare and not self.leaving:
            self.calls.leave_abandoned()
            self.retire(Reason.ABANDONED, LINGER_SECONDS)

    def retire(self, reason: Reason | None, linger_seconds: float = 0.0) -> None:
        """Serves the connections it has until they have let go, at most so long, and takes no new
        ones unless it is the last. `reason`: its own, for the supervisor."""
        if reason is Reason.DAMAGED:
            # What still gets here goes elsewhere.
            self.app.is_damaged = self.app.draining = True
        if self.leaving:
            return
        try:
            self.leaving = self.app.closing = True
            self.health.stop()
            self.app.close_web_sockets()
            if reason:
                self.tell(News.RETIRES, reason.name)
            if not self.is_last:
                self.server.stop_accepting()
            self.close_down_when_unused(time.monotonic() + linger_seconds, _ARRIVING_TURNS)
        except _Anything:
            # Not even that: what it is made of is broken.
            _exit(Exit.UNFIT)

    def close_down_when_unused(self, latest: float, turns: int) -> None:
        """`turns`: so long what has got here by now is read first."""
        if turns > 0 or (self.server.connections and time.monotonic() < latest):
            self.loop.call_later(_TURN_SECONDS, self.close_down_when_unused, latest, turns - 1)
        else:
            self.close_down()

    def close_down(self) -> None:
        self.app.draining = True
        # A manager that has yet to hear of it may still come. Left in the backlog its request would
        # be cut off when the worker ends, and then nobody could tell that no handler was called.
        if not self.is_last:
            self.server.stop_accepting()
        self.server.close_idle_connections()
        self.calls.on_empty = lambda: self.loop.call_later(0.002, self.end_listening)
        self.calls.note_if_empty()

    def end_listening(self) -> None:
        if self.is_last:
            self.server.accept_waiting(self.loop)
            # For the supervisor's copy too: whoever comes now is refused, and goes elsewhere.
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            # Or the loop would be told without end that it is shut down.
            self.server.stop_accepting()
        turns = _LAST_TURNS if self.is_last else _FLUSHING_TURNS
        self.loop.call_later(_TURN_SECONDS, self.leave_when_flushed, turns)

    def leave_when_flushed(self, turns: int) -> None:
        """The last answers may still be in a socket's buffer, and a first request on its way."""
        busy = self.app.background or self.server.connections
        if busy and turns > 0:
            self.loop.call_later(_TURN_SECONDS, self.leave_when_flushed, turns - 1)
        elif self.lifespan is None:
            self.leave(Exit.DONE)
        elif self.ending is None:
            self.ending = self.loop.create_task(self.end_application(self.lifespan))

    async def end_application(self, lifespan: Lifespan) -> None:
        with contextlib.suppress(_Anything):
            await asyncio.wait_for(lifespan.stop(), _SHUTDOWN_SECONDS)
        self.leave(Exit.DONE)

    def leave(self, status: int) -> Any:
        Streams.flush()
        _exit(status)

    def leave_if_forked(self) -> None:
        if os.getpid() != self.pid:
            _exit(0)
