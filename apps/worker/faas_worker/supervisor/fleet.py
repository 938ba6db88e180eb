"""The runners of one function: which one serves, which are on their way in or out."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace

from ..pulse import NoticeBoard
from ..runner.failures import Failure
from ..runner.fullness import REASONS
from ..runner.loading import failure_in, report_line
from ..settings import Settings
from .clearing import Clearing
from .processes import MAX_LEFT_BEHIND, MAX_PROCESSES, count_below
from .relaying import OUTLETS
from .reports import LastExit, OomCounter, explain_exit, log, write_line
from .runner_process import RunnerProcess, fork_runner
from .watching import (
    LINGER_SECONDS,
    MAX_RUNNERS,
    TICK_SECONDS,
    Failures,
    LoadHistory,
    Patience,
    end_by,
    start_delay,
)

EXIT_NOT_LOADABLE = 65
#: It has given up on itself: another worker may do better.
EXIT_FAILED = 76
_TOO_MANY = f"Its handler started too many processes: {MAX_PROCESSES} ran at once."
_DYING_SECONDS = 5.0
_EVICT_SECONDS = 1.0
# A retiring runner leaves by itself after its last answer; this is for one that doesn't.
_LEAVE_SECONDS = 0.5
_DEAF_SECONDS = 0.02
_CLEARING_PAUSE_SECONDS = 0.01
# So long the next runner waits for the end of one that has kept what both need.
_KEPT_SECONDS = 0.25
# So long after it began to retire a runner may still take requests that were on their way.
_SETTLE_SECONDS = 0.15


class Fleet:
    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        release_in_child: Callable[[], None],
        board: NoticeBoard | None = None,
        prepared: RunnerProcess | None = None,
    ) -> None:
        """`prepared`: a first runner that is there already and has been told what to load."""
        self.settings = settings
        self.listener = listener
        self.release_in_child = release_in_child
        self.runners: dict[int, RunnerProcess] = {}
        self.board = board or NoticeBoard()
        self.oom = OomCounter()
        self.patience = Patience()
        self.loads = LoadHistory()
        self.number = 1 if prepared else 0
        self.crashes = 0
        self.start_at: float | None = None if prepared else 0.0
        self.evict_at = 0.0
        self.draining = False
        # A handler is making processes: their number is looked at, long before those it leaves.
        self.forking = False
        # Groups of processes that have been killed, and until when some may still be dying.
        self.doomed: dict[int, float] = {}
        self.clearing = Clearing(settings)
        self.failures = Failures()
        self.exit_status: int | None = None
        if prepared:
            self.runners[prepared.pid] = prepared

    def serving(self) -> list[RunnerProcess]:
        return [r for r in self.runners.values() if r.state == "serving" and not r.watch.silent]

    def loading(self) -> bool:
        return any(runner.state == "loading" for runner in self.runners.values())

    # Coming

    def start_if_due(self, now: float) -> bool:
        """False when there may be no more processes."""
        if self.start_at is None or now < self.start_at or self.draining:
            return True
        if not self.runners and not self.clearing.goes_on(now):
            self.start_at = now + _CLEARING_PAUSE_SECONDS
            if self.clearing.is_hopeless(now):
                self.give_up("What its runners have left, files or memory, could not be removed.")
            return True
        self.start_at = None
        if len(self.runners) >= MAX_RUNNERS:
            return True
        self.number += 1
        try:
            runner = fork_runner(
                self.settings, self.number, self.listener, self.board, self._release_in_child
            )
        except OSError as error:
            log("fork_failed", message=os.strerror(error.errno or 0))
            self.start_at = now + TICK_SECONDS
            return error.errno not in (errno.EAGAIN, errno.ENOMEM)
        self.runners[runner.pid] = runner
        return True

    def give_up(self, reason: str) -> None:
        write_line(json.dumps({"faas": "worker_failed", "message": reason}).encode(), seconds=2)
        self.exit_status = EXIT_FAILED

    def _release_in_child(self) -> None:
        self.release_in_child()
        for runner in self.runners.values():
            runner.release_in_child()

    def ensure_one(self, now: float) -> None:
        """Starts the next runner unless one serves or is on its way."""
        if self.draining:
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
        runner.order(b"go")

    # Going

    def let_go(self, runner: RunnerProcess, reason: str, now: float) -> None:
        """It takes no new calls, may finish those it has, and then has to leave."""
        runner.stuck = reason
        self.retire(runner, now)
        self.ensure_one(now)

    def retire(
        self,
        runner: RunnerProcess,
        now: float,
        order: bytes = b"retire",
        settle_seconds: float = _SETTLE_SECONDS,
    ) -> None:
        runner.state = "retiring"
        runner.settles_at = now + settle_seconds
        runner.end_by = max(self.end_of(runner, now) + _LEAVE_SECONDS, runner.settles_at)
        runner.order(order)

    def end_of(self, runner: RunnerProcess, now: float) -> float:
        timeout = self.settings.timeout_ms / 1000
        return end_by(now, runner.pulse.in_flight, runner.pulse.deadline_ns / 1e9, timeout)

    def has_new_forkers(self) -> bool:
        return any(runner.forked and pid not in self.doomed for pid, runner in self.runners.items())

    def kill_forkers(self, now: float) -> bool:
        """Ends the runners whose handlers have made processes. False when that doesn't help: there
        are none, or their processes have left their groups."""
        forkers = [runner for runner in self.runners.values() if runner.forked]
        if not forkers:
            return False
        for runner in forkers:
            if not self.oom.has_grown():
                runner.stuck = runner.stuck or _TOO_MANY
            runner.kill()
            self.doomed[runner.pid] = now + _DYING_SECONDS
        return count_below(os.getpid(), MAX_LEFT_BEHIND, self.doomed) < MAX_LEFT_BEHIND

    def kill_bystanders(self) -> None:
        """Those whose handlers have made no processes: their end is nobody's fault, unless nothing
        but the function's file has run yet."""
        for runner in self.runners.values():
            if runner.forked:
                continue
            if runner.state == "loading" and not self.loads.has_succeeded:
                runner.stuck = runner.stuck or _TOO_MANY
            else:
                runner.surplus = True
            runner.kill()

    def kill_all(self, reason: str) -> None:
        for runner in self.runners.values():
            runner.stuck = runner.stuck or reason
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
                runner.order(b"drain")

    def make_way(self, now: float) -> None:
        """For a runner that starts when there is none: they have filled what all of them share."""
        for runner in self.runners.values():
            runner.kept = True
            runner.surplus = runner.stuck is None
            if runner.state == "loading":
                runner.kill()
            elif runner.state == "serving":
                self.retire(runner, now)
        self.start_at = now + _KEPT_SECONDS

    def on_exit(self, runner: RunnerProcess, wait_status: int, now: float) -> None:
        del self.runners[runner.pid]
        self.clearing.is_done = False
        if runner.kept and not self.runners and self.start_at is not None:
            self.start_at = now
        for message in runner.messages():
            self.on_message(runner, message, now)
        runner.kill()
        runner.output.finish()
        out_of_memory = self.oom.grew()
        good = runner.pulse.good
        if runner.pulse.served:
            self.crashes = 0
        runner.forget()
        if self.draining:
            return None
        if runner.surplus:
            return self.ensure_one(now)
        last_exit = explain_exit(runner.number, wait_status, runner.stuck, out_of_memory)
        if runner.state == "loading" and not (runner.stuck and self.loads.has_succeeded):
            killed = last_exit.reason == "signal" and os.WTERMSIG(wait_status) == signal.SIGKILL
            return self.on_load_failure(runner, last_exit, now, killed=killed)
        self.board.post(last_exit.encode())
        log(
            "runner_exited",
            runner=last_exit.runner,
            reason=last_exit.reason,
            message=last_exit.message,
        )
        self.crashes += 1
        if not runner.overdue:
            self.note_failure(runner, last_exit, good)
        self.ensure_one(now)
        return None

    def note_failure(self, runner: RunnerProcess, last_exit: LastExit, good: int) -> None:
        """`good`: how many calls of the runner got their result."""
        is_unfit = last_exit.reason == "stuck" and runner.stuck is None
        of_the_worker = runner.kept or is_unfit or last_exit.reason == "out_of_memory"
        self.failures.add((last_exit.reason, last_exit.message), after_good=good > 0)
        if self.failures.are_too_many(of_the_worker=of_the_worker):
            count = self.failures.count
            self.give_up(f"Ended after {count} failures in a row: {last_exit.message}")

    def on_load_failure(
        self, runner: RunnerProcess, last_exit: LastExit, now: float, *, killed: bool
    ) -> None:
        pause = self.loads.failed(killed=killed and runner.load_report is None)
        if pause is not None:
            log("load_failed", runner=runner.number, attempt=self.loads.failures)
            self.start_at = now + pause
            return
        failure = failure_in(runner.load_report)
        if failure is None:
            message = f"{last_exit.message} This was while the handler was being loaded."
            failure = Failure("ProcessExit", message, "")
        failure = replace(failure, stderr=runner.output.last_of_stderr())
        write_line(report_line(failure), seconds=2)
        self.exit_status = EXIT_NOT_LOADABLE

    # What runners say

    def relay_output(self) -> bool:
        """False when there was none."""
        found = False
        for runner in self.runners.values():
            for stream in runner.output.streams:
                if not stream.ended and not stream.outlet.is_full:
                    found = stream.read() or found
        for outlet in OUTLETS:
            if outlet.has_pending:
                outlet.flush()
        return found

    def read_channels(self, now: float) -> bool:
        """True when a handler has forked, so that strays are worth looking for."""
        forked = False
        for runner in list(self.runners.values()):
            for message in runner.messages():
                forked = self.on_message(runner, message, now) or forked
            if runner.deaf and runner.end_by is None:
                # It has closed its descriptors or is just exiting.
                runner.end_by = now + _DEAF_SECONDS
        return forked

    def on_message(self, runner: RunnerProcess, message: bytes, now: float) -> bool:
        if runner.state == "loading":
            if message == b"loaded":
                self.on_loaded(runner, now)
            elif message.startswith(b"{"):
                runner.load_report = message
        elif message.startswith(b"stuck") and runner.state == "serving":
            limit_ms = message[6:22].decode("ascii", "replace")
            reason = f"A call ran past its time limit of {limit_ms} ms and could not be ended."
            runner.overdue = True
            self.let_go(runner, reason, now)
        elif message == b"full" and runner.state == "serving":
            self.let_go(runner, "A call ran out of memory, and kept what it had.", now)
        elif message == b"kept descriptors" and runner.state == "serving":
            runner.kept = True
            self.let_go(runner, REASONS[message[5:]], now)
        elif message[5:] in REASONS and runner.state == "serving":
            runner.stuck = REASONS[message[5:]]
            self.make_way(now)
        elif message == b"crowded":
            runner.stuck = runner.stuck or "Its handler started too many threads."
            runner.kill()
        elif message.startswith(b"abandoned") and runner.state == "serving":
            runner.stuck = "Calls whose callers had gone took up its threads."
            runner.overdue = True
            self.retire(runner, now, b"linger", LINGER_SECONDS + _SETTLE_SECONDS)
            self.ensure_one(now)
        elif message == b"settle":
            runner.settling = True
        elif message == b"forking":
            self.forking = True
        runner.forked = runner.forked or message in (b"forking", b"forked", b"settle")
        return message in (b"forked", b"settle")

    # Silence

    def watch(self, now: float, passed: float, tick: float) -> None:
        for runner in self.runners.values():
            if runner.state != "serving":
                continue
            watch = runner.watch
            watch.observe(runner.pulse.last_beat_ns, passed, tick)
            if watch.silent and watch.silent_seconds == 0.0:
                self.on_return(runner, now)
            elif self.draining or watch.silent:
                continue
            elif watch.silent_seconds > self.patience.limit(now, runner.pulse.resting):
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
        self.patience.false_alarm(now)
        log("runner_back", runner=runner.number)
        if self.draining:
            return
        for other in self.runners.values():
            if other.number > runner.number and other.state == "serving":
                other.surplus = True
                self.retire(other, now, b"linger", LINGER_SECONDS + _SETTLE_SECONDS)

    def evict(self, now: float) -> None:
        """When all of them are on their way out, the one that would go first makes room now."""
        if all(runner.end_by is not None for runner in self.runners.values()):
            self.evict_at = now + _EVICT_SECONDS
            first = min(self.runners.values(), key=lambda runner: self.end_of(runner, now))
            first.end_by, first.settles_at = now, 0.0

    def enforce(self, now: float) -> None:
        """Ends the runners whose time has come."""
        for runner in self.runners.values():
            if runner.end_by is not None and now < runner.settles_at:
                runner.end_by = max(runner.end_by, self.end_of(runner, now) + _LEAVE_SECONDS)
            if runner.end_by is not None and now >= runner.end_by:
                if runner.watch.silent and runner.stuck is None:
                    runner.stuck = "It stopped answering: its event loop was blocked or stopped."
                runner.kill()
            elif runner.state == "loading" and now - runner.started > self.loads.limit_seconds():
                runner.kill()
