"""The runners of one function: which one serves, which are on their way in or out."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace

from ..protocol import (
    AUTO,
    LINGER_SECONDS,
    OF_THE_WORKER,
    SHARED,
    Exit,
    News,
    Notice,
    Order,
    Reason,
    unpack_news,
)
from ..runner.failures import Failure
from ..runner.layer import is_lost
from ..runner.loading import failure_in, report_line
from ..settings import Settings
from .decisions import (
    MAX_RUNNERS,
    TICK_SECONDS,
    Failures,
    LoadHistory,
    SilenceLimit,
    end_by,
    start_delay,
)
from .leftovers import Leftovers
from .output import relay
from .reports import LastExit, OomCounter, explain_exit, log, write_line
from .runner_process import RunnerProcess, fork_runner

_TOO_MANY = "Its handler started too many processes."
_SILENT = "It stopped answering: its event loop was blocked or stopped."
_EVICT_SECONDS = 1.0
# A retiring runner leaves by itself after its last answer; this is for one that doesn't.
_LEAVE_SECONDS = 0.5
_DEAF_SECONDS = 0.02
_CLEARING_PAUSE_SECONDS = 0.01
# So long the next runner waits for the end of one that has kept what both need.
_SHARED_SECONDS = 0.65
# So long after it began to retire a runner may still take requests that were on their way.
_SETTLE_SECONDS = 0.15
# Stands in for code that has ended, so that `/health` can tell how.
_OVER = b"""def handle(payload):
    raise RuntimeError("The code has ended before it was called, and is not run again.")
"""


class Fleet:
    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        release_in_child: Callable[[], None],
        notice: Notice | None = None,
        prepared: RunnerProcess | None = None,
        oom: OomCounter | None = None,
    ) -> None:
        """`prepared`: a first runner that is there already and has been told what to load; `oom`
        counts from before that."""
        self.settings = settings
        self.listener = listener
        self.release_in_child = release_in_child
        self.runners: dict[int, RunnerProcess] = {}
        self.notice = notice or Notice.shared()
        self.oom = oom or OomCounter()
        self.silence_limit = SilenceLimit()
        self.loads = LoadHistory()
        self.number = 1 if prepared else 0
        self.crashes = 0
        self.start_at: float | None = None if prepared else 0.0
        self.evict_at = 0.0
        self.draining = False
        #: The next runner waits until there is none.
        self.makes_way = False
        self.leftovers = Leftovers(settings)
        self.failures = Failures()
        self.exit_status: int | None = None
        if prepared:
            self.runners[prepared.pid] = prepared

    def serving(self) -> list[RunnerProcess]:
        return [r for r in self.runners.values() if r.state == "serving" and not r.watch.silent]

    def has_accepting(self) -> bool:
        return any(runner.state == "serving" for runner in self.runners.values())

    def loading(self) -> bool:
        return any(runner.state == "loading" for runner in self.runners.values())

    # Coming

    def start_if_due(self, now: float) -> bool:
        """False when there may be no more processes."""
        if self.start_at is None or now < self.start_at or self.draining:
            return True
        if not self.runners and not self.leftovers.are_gone(now):
            self.start_at = now + _CLEARING_PAUSE_SECONDS
            if self.leftovers.stay(now):
                self.give_up("What its runners have left, files or memory, could not be removed.")
            return True
        self.start_at, self.makes_way = None, False
        if len(self.runners) >= MAX_RUNNERS:
            return True
        self.number += 1
        try:
            runner = fork_runner(
                self._next_settings(),
                self.number,
                self.listener,
                self.notice,
                self._release_in_child,
            )
        except OSError as error:
            log("fork_failed", message=os.strerror(error.errno or 0))
            self.start_at = now + TICK_SECONDS
            return error.errno not in (errno.EAGAIN, errno.ENOMEM)
        self.runners[runner.pid] = runner
        return True

    @property
    def _may_not_load_again(self) -> bool:
        """It is called once, and may have had its effect already."""
        return self.settings.is_called_once and self.loads.has_succeeded

    def _next_settings(self) -> Settings:
        """What the next runner loads."""
        if not self._may_not_load_again:
            return self.settings
        return replace(self.settings, handler="over.handle", code=_OVER, kind=AUTO, layer=None)

    def give_up(self, message: str, reason: str | None = None) -> None:
        """`reason`: how its runners ended, where that is why."""
        note = {"faas": "worker_failed", "message": message}
        if reason is not None:
            note["reason"] = reason
        write_line(json.dumps(note).encode(), seconds=2)
        self.exit_status = Exit.FAILED

    def _release_in_child(self) -> None:
        self.release_in_child()
        for runner in self.runners.values():
            runner.forget()

    def ensure_one(self, now: float) -> None:
        """Starts the next runner unless one serves or is on its way."""
        if self.draining or (self._may_not_load_again and self.runners):
            return
        if not self.loading() and not self.serving() and self.start_at is None:
            self.start_at = now + start_delay(self.crashes)

    def on_loaded(self, runner: RunnerProcess, now: float) -> None:
        self.loads.succeeded(now - runner.started)
        runner.output.loaded()
        if self.serving() or self.draining:
            runner.surplus = True
            runner.kill()
            return
        runner.state = "serving"
        runner.order(Order.SERVE)

    # Going

    def let_go(self, runner: RunnerProcess, reason: Reason, now: float) -> None:
        """It takes no new calls, may finish those it has, and then has to leave."""
        runner.reason = reason
        linger = LINGER_SECONDS if reason is Reason.ABANDONED else 0.0
        self._note_retiring(runner, now, linger)
        if reason in SHARED:
            self.make_way(now)
        else:
            self.ensure_one(now)

    def retire(self, runner: RunnerProcess, now: float, order: Order) -> None:
        runner.order(order)
        self._note_retiring(runner, now, LINGER_SECONDS if order is Order.LINGER else 0.0)

    def _note_retiring(self, runner: RunnerProcess, now: float, linger_seconds: float) -> None:
        runner.state = "retiring"
        runner.settles_at = now + linger_seconds + _SETTLE_SECONDS
        runner.end_by = max(self.end_of(runner, now) + _LEAVE_SECONDS, runner.settles_at)

    def end_of(self, runner: RunnerProcess, now: float) -> float:
        timeout = self.settings.timeout_ms / 1000
        return end_by(now, runner.heartbeat.in_flight, runner.heartbeat.deadline_ns / 1e9, timeout)

    def kill_forker(self, runner: RunnerProcess) -> None:
        """With all that it has started and that has not left its group."""
        if not self.oom.has_grown():
            runner.reason = runner.reason or _TOO_MANY
        runner.kill()

    def kill_bystanders(self) -> None:
        """Those whose handlers have made no processes: their end is nobody's fault, unless nothing
        but the function's file has run yet. Of code that is called once it is the end."""
        for runner in self.runners.values():
            if runner.forked:
                continue
            is_loading_first = runner.state == "loading" and not self.loads.has_succeeded
            if is_loading_first or self._may_not_load_again:
                runner.reason = runner.reason or _TOO_MANY
            else:
                runner.surplus = True
            runner.kill()

    def kill_all(self, reason: str) -> None:
        for runner in self.runners.values():
            runner.reason = runner.reason or reason
            runner.kill()

    def drain(self, now: float) -> None:
        # The first runner of a worker that was given its function serves before it is known here.
        self.read_channels(now)
        self.draining = True
        self.start_at = None
        for runner in self.runners.values():
            if runner.state == "loading":
                runner.kill()
            elif runner.state == "serving":
                runner.order(Order.DRAIN)

    def make_way(self, now: float) -> None:
        """For a runner that starts when there is none: they have filled what all of them share."""
        for runner in self.runners.values():
            runner.surplus = runner.reason is None
            if runner.state == "loading":
                runner.kill()
            elif runner.state == "serving":
                self.retire(runner, now, Order.RETIRE)
        self.makes_way = True
        if not self._may_not_load_again:
            self.start_at = now + _SHARED_SECONDS

    def on_exit(self, runner: RunnerProcess, wait_status: int, now: float) -> None:
        del self.runners[runner.pid]
        self.leftovers.may_be_there()
        if self.makes_way and not self.runners and self.start_at is not None:
            self.start_at = now
        for message in runner.messages():
            self.on_message(runner, message, now)
        runner.kill()
        runner.output.finish()
        out_of_memory = self.oom.grew() or runner.out_of_memory
        if runner.heartbeat.good:
            self.crashes = 0
        runner.forget()
        if self.draining:
            return None
        if runner.surplus:
            return self.ensure_one(now)
        last_exit = explain_exit(runner.number, wait_status, runner.reason, out_of_memory)
        if runner.state == "loading" and not (runner.reason and self.loads.has_succeeded):
            killed = last_exit.reason == "signal" and os.WTERMSIG(wait_status) == signal.SIGKILL
            return self.on_load_failure(runner, last_exit, now, killed=killed)
        self.notice.last_exit = last_exit.encode()
        log(
            "runner_exited",
            runner=last_exit.runner,
            reason=last_exit.reason,
            message=last_exit.message,
        )
        self.crashes += 1
        if runner.reason not in (Reason.OVERDUE, Reason.ABANDONED):
            self.note_failure(runner, last_exit)
        return self.ensure_one(now)

    def note_failure(self, runner: RunnerProcess, last_exit: LastExit) -> None:
        is_unfit = last_exit.reason == "stuck" and runner.reason is None
        of_the_worker = (
            runner.reason in OF_THE_WORKER or is_unfit or last_exit.reason == "out_of_memory"
        )
        has_results = runner.heartbeat.good > 0
        self.failures.add((last_exit.reason, last_exit.message), after_good=has_results)
        if self.failures.are_too_many(of_the_worker=of_the_worker):
            count = self.failures.count
            message = f"Ended after {count} failures in a row: {last_exit.message}"
            self.give_up(message, last_exit.reason)

    def on_load_failure(
        self, runner: RunnerProcess, last_exit: LastExit, now: float, *, killed: bool
    ) -> None:
        if is_lost(self.settings.layer):
            self.give_up("The packages of the function are gone from its machine.")
            return
        may_have_had_effect = self.settings.is_called_once and runner.heartbeat.has_begun
        is_tried_again = killed and runner.load_report is None and not may_have_had_effect
        pause = self.loads.failed(killed=is_tried_again)
        if pause is not None:
            log("load_failed", runner=runner.number, attempt=self.loads.failures)
            self.start_at = now + pause
            return
        failure = failure_in((runner.load_report or "").encode())
        if failure is None:
            message = f"{last_exit.message} This was while the handler was being loaded."
            failure = Failure("ProcessExit", message, "")
        failure = replace(failure, stderr=runner.output.last_of_stderr())
        write_line(report_line(failure), seconds=2)
        self.exit_status = Exit.NOT_LOADABLE

    # What runners say

    def relay_output(self) -> bool:
        """False when there was none."""
        return relay(runner.output for runner in self.runners.values())

    def read_channels(self, now: float) -> bool:
        """True when a handler makes processes."""
        forks = False
        for runner in list(self.runners.values()):
            for message in runner.messages():
                forks = self.on_message(runner, message, now) or forks
            if runner.deaf and runner.end_by is None:
                # It has closed its descriptors or is just exiting.
                runner.end_by = now + _DEAF_SECONDS
        return forks

    def on_message(self, runner: RunnerProcess, message: bytes, now: float) -> bool:
        news, detail = unpack_news(message)
        if news is News.FORKS:
            runner.forked = True
        elif runner.state == "loading":
            if news is News.LOADED:
                self.on_loaded(runner, now)
            elif news is News.NOT_LOADABLE:
                runner.load_report = detail
        elif runner.state == "serving" and news is News.RETIRES and detail in Reason.__members__:
            self.let_go(runner, Reason[detail], now)
        return news is News.FORKS

    # Silence

    def watch(self, now: float, passed: float, tick: float) -> None:
        for runner in self.runners.values():
            if runner.state != "serving":
                continue
            watch = runner.watch
            # In the order in which a runner that wakes doesn't write them.
            is_resting = bool(runner.heartbeat.is_resting)
            watch.observe(runner.heartbeat.beat_ns, passed, tick)
            if watch.silent and watch.silent_seconds == 0.0:
                self.on_return(runner, now)
            elif self.draining or watch.silent:
                continue
            elif watch.silent_seconds > self.silence_limit.at(now, is_resting):
                watch.silent = True
                runner.end_by = self.end_of(runner, now)
                log("runner_silent", runner=runner.number)
        if not self.draining and len(self.runners) >= MAX_RUNNERS and now >= self.evict_at:
            self.evict(now)
        self.ensure_one(now)

    def on_return(self, runner: RunnerProcess, now: float) -> None:
        """It was only slow. It keeps its connections; whoever stood in for it goes."""
        runner.watch.silent = False
        runner.end_by = None
        self.silence_limit.false_alarm(now)
        log("runner_back", runner=runner.number)
        if self.draining:
            return
        for other in self.runners.values():
            if other.number > runner.number and other.state == "serving":
                other.surplus = True
                self.retire(other, now, Order.LINGER)

    def evict(self, now: float) -> None:
        """When all of them are on their way out, the one that would go first makes room now."""
        if all(runner.end_by is not None for runner in self.runners.values()):
            self.evict_at = now + _EVICT_SECONDS
            first = min(self.runners.values(), key=lambda runner: self.end_of(runner, now))
            first.end_by, first.settles_at = now, 0.0

    def enforce(self, now: float) -> None:
        """Ends the runners whose time has come, or that use more memory than they may where no
        container sees to that."""
        most = self.settings.limit_memory_bytes
        for runner in self.runners.values():
            if most is not None and runner.used_bytes() > most:
                runner.out_of_memory = True
                runner.kill()
            if runner.end_by is not None and now < runner.settles_at:
                runner.end_by = max(runner.end_by, self.end_of(runner, now) + _LEAVE_SECONDS)
            if runner.end_by is not None and now >= runner.end_by:
                if runner.watch.silent and runner.reason is None:
                    runner.reason = _SILENT
                runner.kill()
            elif runner.state == "loading" and now - runner.started > self.loads.limit_seconds():
                runner.kill()
