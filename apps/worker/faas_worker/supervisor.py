"""The first process: keeps one runner serving, whatever handler code does to it."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import socket
import time

from . import system
from .failures import Failure
from .listener import BACKLOG, listen
from .loading import report_line
from .processes import kill_strays, left_behind
from .pulse import NoticeBoard
from .reports import LastExit, OomCounter, explain_exit, log, write_line
from .runner_process import RunnerProcess, fork_runner
from .settings import Settings
from .watching import (
    MAX_LEFT_BEHIND,
    MAX_RUNNERS,
    MULTIPLYING_SWEEPS,
    Patience,
    end_by,
    start_delay,
)

EXIT_NOT_LOADABLE = 65
_TICK_SECONDS = 0.04
_RESTING_TICK_SECONDS = 0.5
_SWEEP_SECONDS = 1.0
_SWEEP_ROUNDS = 50
_LOAD_ATTEMPTS = 5
_EVICT_SECONDS = 1.0
_BOMB_SECONDS = 1.0


class Supervisor:
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self.settings = settings
        self.listener = listener
        self.board = NoticeBoard()
        self.runners: dict[int, RunnerProcess] = {}
        self.signals = system.SignalFile({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
        self.oom = OomCounter()
        self.patience = Patience()
        self.first_process = os.getpid() == 1
        self.number = 0
        self.crashes = 0
        self.failed_loads = 0
        self.load_seconds: float | None = None
        self.start_at: float | None = 0.0
        self.sweep_at = 0.0
        self.sweeps_with_strays = 0
        # Strays that were sent SIGKILL and have not died of it yet.
        self.signalled: set[int] = set()
        self.evict_at = 0.0
        self.drain_until: float | None = None
        self.exit_status: int | None = None

    def run(self) -> int:
        system.become_subreaper()
        last = time.monotonic()
        while self.exit_status is None:
            now = time.monotonic()
            self.start_if_due(now)
            tick = self.tick_seconds()
            self.wait(tick)
            now = time.monotonic()
            self.read_signals(now)
            self.reap(now)
            self.read_channels(now)
            self.watch(now, now - last, tick)
            self.enforce(now)
            self.sweep_if_due(now)
            last = now
        self.end_everything()
        return self.exit_status

    # Waiting

    def tick_seconds(self) -> float:
        quiet = self.drain_until is None and self.start_at is None
        if quiet and all(r.state == "serving" and r.pulse.resting for r in self.runners.values()):
            return _RESTING_TICK_SECONDS
        return _TICK_SECONDS

    def wait(self, tick: float) -> None:
        poll = select.poll()
        poll.register(self.signals.fd, select.POLLIN)
        # A hang-up on the listening socket means that handler code has shut it down. A new
        # connection is of interest only to stop resting.
        poll.register(self.listener, select.POLLIN if tick > _TICK_SECONDS else 0)
        for runner in self.runners.values():
            if not runner.noisy and not runner.deaf:
                poll.register(runner.channel, select.POLLIN)
        if self.start_at is not None:
            tick = max(min(tick, self.start_at - time.monotonic()), 0)
        for fd, events in poll.poll(tick * 1000):
            if fd == self.listener.fileno() and events & (select.POLLHUP | select.POLLERR):
                self.listen_again()

    def read_signals(self, now: float) -> None:
        for number, sender in self.signals.read():
            if number == signal.SIGCHLD or self.from_within(sender):
                continue
            if self.drain_until is not None:
                self.exit_status = 128 + number
                return
            self.drain(now)

    def from_within(self, sender: int) -> bool:
        """A signal from handler code. In a container whoever may stop us is outside of it."""
        return sender in self.runners or (self.first_process and sender != 0)

    # Runners

    def start_if_due(self, now: float) -> None:
        if self.start_at is None or now < self.start_at or self.drain_until is not None:
            return
        self.start_at = None
        if len(self.runners) >= MAX_RUNNERS:
            return
        self.number += 1
        try:
            runner = self.fork()
        except OSError as error:
            log("fork_failed", message=os.strerror(error.errno or 0))
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                self.make_room()
            self.start_at = now + _TICK_SECONDS
            return
        self.runners[runner.pid] = runner

    def fork(self) -> RunnerProcess:
        return fork_runner(
            self.settings, self.number, self.listener, self.board, self.release_in_child
        )

    def make_room(self) -> None:
        """Handler code has taken every process there may be."""
        if self.first_process:
            with contextlib.suppress(OSError):
                os.kill(-1, signal.SIGKILL)
        for runner in self.runners.values():
            runner.stuck = runner.stuck or "It left no room for another process."
            runner.kill()

    def release_in_child(self) -> None:
        self.signals.release_in_child()
        for runner in self.runners.values():
            runner.channel.close()

    def serving(self) -> list[RunnerProcess]:
        return [r for r in self.runners.values() if r.state == "serving" and not r.watch.silent]

    def replace(self, now: float, crashed: bool = False) -> None:
        """Starts the next runner unless one serves or is on its way."""
        if crashed:
            self.crashes += 1
        loading = any(r.state == "loading" for r in self.runners.values())
        if not loading and not self.serving() and self.start_at is None:
            self.start_at = now + start_delay(self.crashes)

    def reap(self, now: float) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self.signalled.discard(pid)
            runner = self.runners.pop(pid, None)
            if runner is not None:
                self.on_exit(runner, status, now)
        if self.drain_until is not None and not self.runners and self.exit_status is None:
            self.exit_status = 0

    def on_exit(self, runner: RunnerProcess, status: int, now: float) -> None:
        for message in runner.messages():
            self.on_message(runner, message, now)
        runner.kill()
        out_of_memory = self.oom.grew()
        served = runner.pulse.served
        runner.forget()
        self.sweep_at = 0.0
        if self.drain_until is not None or runner.surplus:
            return self.replace(now) if self.drain_until is None else None
        last_exit = explain_exit(runner.number, status, runner.stuck, out_of_memory)
        if runner.state == "loading":
            self.on_load_failure(runner, last_exit, now)
            return None
        self.board.post(last_exit.encode())
        log(
            "runner_exited",
            runner=runner.number,
            reason=last_exit.reason,
            message=last_exit.message,
        )
        if served:
            self.crashes = 0
        self.replace(now, crashed=True)
        return None

    def on_load_failure(self, runner: RunnerProcess, last_exit: LastExit, now: float) -> None:
        self.failed_loads += 1
        report = runner.load_report
        if report is None:
            message = f"{last_exit.message} This was while the handler was being loaded."
            report = report_line(Failure("ProcessExit", message, ""))
        if self.load_seconds is None or self.failed_loads >= _LOAD_ATTEMPTS:
            write_line(report, seconds=2)
            self.exit_status = EXIT_NOT_LOADABLE
            return
        log("load_failed", runner=runner.number, attempt=self.failed_loads)
        self.start_at = now + 0.1 * 2**self.failed_loads

    # What runners say

    def read_channels(self, now: float) -> None:
        for runner in list(self.runners.values()):
            if runner.deaf:
                continue
            for message in runner.messages():
                self.on_message(runner, message, now)
            if runner.deaf and runner.end_by is None:
                # It has closed its descriptors or is just exiting.
                runner.end_by = now + 0.02

    def on_message(self, runner: RunnerProcess, message: bytes, now: float) -> None:
        if runner.state == "loading":
            if message == b"loaded":
                self.on_loaded(runner, now)
            elif message.startswith(b"{"):
                runner.load_report = message
        elif message == b"forked":
            self.sweep_at = min(self.sweep_at, now)
        elif message.startswith(b"stuck") and runner.state == "serving":
            limit_ms = message[6:22].decode("ascii", "replace")
            reason = f"A call ran past its time limit of {limit_ms} ms and could not be ended."
            self.let_go(runner, reason, now)

    def on_loaded(self, runner: RunnerProcess, now: float) -> None:
        self.failed_loads = 0
        if self.load_seconds is None:
            self.load_seconds = now - runner.started
        if self.serving() or self.drain_until is not None:
            runner.surplus = True
            runner.kill()
            return
        runner.state = "serving"
        runner.watch.observe(0, 0, 0)
        runner.order(b"go")

    def let_go(self, runner: RunnerProcess, reason: str, now: float) -> None:
        runner.state = "retiring"
        runner.stuck = reason
        runner.end_by = self.end_of(runner, now) + 0.5
        self.replace(now)

    def end_of(self, runner: RunnerProcess, now: float) -> float:
        timeout = self.settings.timeout_ms / 1000
        return end_by(now, runner.pulse.in_flight, runner.pulse.deadline_ns / 1e9, timeout)

    # Silence

    def watch(self, now: float, passed: float, tick: float) -> None:
        for runner in list(self.runners.values()):
            if runner.state != "serving":
                continue
            runner.watch.observe(runner.pulse.last_beat_ns, passed, tick)
            quiet = runner.watch.silent_seconds
            if quiet == 0.0 and runner.watch.silent:
                self.on_return(runner, now)
            elif quiet > self.patience.limit(now, runner.pulse.resting) and not runner.watch.silent:
                self.on_silence(runner, now)
        if len(self.runners) >= MAX_RUNNERS and now >= self.evict_at:
            self.evict(now)
        self.replace(now)

    def on_silence(self, runner: RunnerProcess, now: float) -> None:
        runner.watch.silent = True
        runner.end_by = self.end_of(runner, now)
        log("runner_silent", runner=runner.number)
        self.replace(now)

    def evict(self, now: float) -> None:
        """When all of them are on their way out, the one that would go first makes room now."""
        if all(runner.end_by is not None for runner in self.runners.values()):
            self.evict_at = now + _EVICT_SECONDS
            min(self.runners.values(), key=lambda runner: runner.end_by or 0).end_by = now

    def on_return(self, runner: RunnerProcess, now: float) -> None:
        """It was only slow. It keeps its connections; whoever stood in for it goes."""
        runner.watch.silent = False
        runner.end_by = None
        self.patience.false_alarm(now)
        log("runner_back", runner=runner.number)
        for other in self.runners.values():
            if other.number > runner.number and other.state == "serving":
                other.state = "retiring"
                other.surplus = True
                other.end_by = self.end_of(other, now) + 0.5
                other.order(b"retire")

    def enforce(self, now: float) -> None:
        """Ends the runners whose time has come."""
        for runner in self.runners.values():
            if runner.end_by is not None and now >= runner.end_by:
                if runner.watch.silent and runner.stuck is None:
                    runner.stuck = "It stopped answering: its event loop was blocked or stopped."
                runner.kill()
            elif runner.state == "loading" and now - runner.started > self.load_limit():
                runner.kill()
        if self.drain_until is not None and now >= self.drain_until and self.exit_status is None:
            self.exit_status = 0

    def load_limit(self) -> float:
        """The first load may take its time; a later one that takes far longer hangs."""
        first = self.load_seconds
        return math.inf if first is None else max(30.0, 5 * first)

    # Housekeeping

    def sweep_if_due(self, now: float) -> None:
        if now < self.sweep_at:
            return
        self.sweep_at = now + _SWEEP_SECONDS
        for runner in self.runners.values():
            if runner.state == "serving" and not runner.watch.silent:
                self.check_left_behind(runner, now)
        groups: set[int] = set()
        for _ in range(_SWEEP_ROUNDS):
            found = kill_strays(self.signalled, set(self.runners))
            if not found:
                break
            groups |= found
            self.reap(now)
        if self.signalled:
            self.sweep_at = now + _TICK_SECONDS
        self.sweeps_with_strays = self.sweeps_with_strays + 1 if groups else 0
        if self.sweeps_with_strays >= MULTIPLYING_SWEEPS:
            self.stop_multiplying(groups, now)

    def stop_multiplying(self, groups: set[int], now: float) -> None:
        """Strays that fork faster than they can be killed one by one go with their group."""
        log("processes_multiply")
        for runner in self.runners.values():
            if runner.pid in groups and runner.state == "serving":
                self.let_go(runner, "Its handler left processes behind that multiply.", now)
                runner.order(b"retire")
                patience = _BOMB_SECONDS if runner.pulse.in_flight else 0
                runner.end_by = min(runner.end_by or now, now + patience)
        if self.sweeps_with_strays >= 4 * MULTIPLYING_SWEEPS:
            self.sweeps_with_strays = 0
            self.make_room()

    def check_left_behind(self, runner: RunnerProcess, now: float) -> None:
        count = left_behind(runner.pid, runner.pulse.in_flight)
        if count >= MAX_LEFT_BEHIND:
            self.let_go(runner, f"Its handler left {count} processes behind.", now)
            runner.order(b"retire")

    def listen_again(self) -> None:
        """Handler code has shut the shared socket down, for every process that has it."""
        log("listener_shut_down")
        for runner in self.runners.values():
            runner.stuck = "It shut down the worker's listening socket."
            runner.kill()
        if self.settings.socket_path is not None:
            self.listener.close()
            self.listener = listen(self.settings)
        else:
            self.listener.listen(BACKLOG)

    def drain(self, now: float) -> None:
        self.drain_until = now + self.settings.drain_ms / 1000 + 0.2
        self.start_at = None
        for runner in self.runners.values():
            if runner.state == "loading":
                runner.kill()
            elif runner.state == "serving":
                runner.order(b"drain")
        if not self.runners:
            self.exit_status = 0

    def end_everything(self) -> None:
        self.listener.close()
        if self.settings.socket_path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.settings.socket_path)
        for runner in self.runners.values():
            runner.kill()
        for _ in range(_SWEEP_ROUNDS):
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not kill_strays(set(), set()):
                return
