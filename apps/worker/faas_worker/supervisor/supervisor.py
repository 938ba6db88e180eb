"""The first process: keeps one runner serving, whatever handler code does to it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time

from .. import confidential, system
from ..protocol import BACKLOG, Notice
from ..runner.results import worker_draining
from ..settings import Settings
from .decisions import TICK_SECONDS
from .fleet import Fleet
from .listener import listen, refuse_waiting, stop_listening
from .output import OUTLETS
from .processes import Processes
from .reports import OomCounter, log
from .runner_process import RunnerProcess

_RESTING_TICK_SECONDS = 0.5
_ALERT_SECONDS = 0.2
_END_ROUNDS = 50
# A runner gets its own chance to leave at the end of the drain.
_DRAIN_GRACE_SECONDS = 0.2
# What runners print is copied so often at most: a handler that prints without end costs little.
_RELAY_PAUSE_SECONDS = 0.005
_LAST_SECONDS = 0.5
_CLEARING_SECONDS = 2.0


class Supervisor:
    """Waits, and passes on what it has waited for; what it means is the fleet's business."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        signals: system.SignalFile,
        notice: Notice | None = None,
        prepared: RunnerProcess | None = None,
        oom: OomCounter | None = None,
    ) -> None:
        self.settings = settings
        # Of what runners print.
        confidential.hide(os.environ, settings.secrets_dir)
        self.signals = signals
        self.fleet = Fleet(settings, listener, signals.release_in_child, notice, prepared, oom)
        self.processes = Processes(self.fleet, self.reap)
        self.drain_until: float | None = None
        #: Nobody takes connections any more.
        self.is_closed = False
        self.relay_at = 0.0
        #: Somebody has connected, whom the runner may have yet to take.
        self.alert_until = 0.0
        self.limits = system.own_limits()

    def run(self) -> int:
        """Returns the exit status of the worker."""
        system.become_subreaper()
        fleet = self.fleet
        last = time.monotonic()
        while fleet.exit_status is None:
            now = time.monotonic()
            if not fleet.start_if_due(now):
                self.processes.make_room(now)
            tick = self.tick_seconds()
            self.wait(min(tick, self.processes.seconds_until_look(now)))
            now = time.monotonic()
            if TICK_SECONDS < tick > now - last:
                # A call has begun, which needs the processor now.
                self.processes.postpone(now)
            self.read_signals(now)
            if now >= self.relay_at and fleet.relay_output():
                self.relay_at = now + _RELAY_PAUSE_SECONDS
            self.reap(now)
            if fleet.read_channels(now):
                self.processes.hurry()
            fleet.watch(now, now - last, tick)
            fleet.enforce(now)
            if fleet.exit_status is None and system.are_lowered(self.limits):
                # The kernel lets every process of the same user do that.
                fleet.give_up("Its handler lowered the limits of the worker's first process.")
            else:
                self.processes.look_if_due(now)
            self.end_drain_if_done(now)
            last = now
        self.end_everything()
        return fleet.exit_status

    def tick_seconds(self) -> float:
        fleet = self.fleet
        is_calm = time.monotonic() > self.alert_until
        if is_calm and self.drain_until is None and fleet.start_at is None:
            runners = fleet.runners.values()
            if all(runner.state == "serving" and runner.heartbeat.is_resting for runner in runners):
                return _RESTING_TICK_SECONDS
        return TICK_SECONDS

    def wait(self, tick: float) -> None:
        fleet = self.fleet
        poll = select.poll()
        poll.register(self.signals.fd, select.POLLIN)
        # A hang-up on the listening socket means that handler code has shut it down. A new
        # connection is of interest only to stop resting.
        if self.drain_until is None:
            poll.register(fleet.listener, select.POLLIN if tick > TICK_SECONDS else 0)
        for runner in fleet.runners.values():
            if not runner.noisy and not runner.deaf:
                poll.register(runner.channel, select.POLLIN)
        now = time.monotonic()
        if now < self.relay_at:
            tick = min(tick, self.relay_at - now)
        else:
            self.register_output(poll)
        if fleet.start_at is not None:
            tick = max(min(tick, fleet.start_at - now), 0)
        for fd, events in poll.poll(tick * 1000):
            if fd != fleet.listener.fileno():
                continue
            if events & (select.POLLHUP | select.POLLERR):
                self.listen_again()
            # It would say so again and again, as long as the connection waits.
            self.alert_until = time.monotonic() + _ALERT_SECONDS

    def register_output(self, poll: select.poll) -> None:
        for outlet in OUTLETS:
            if outlet.has_pending:
                poll.register(outlet.fd, select.POLLOUT)
        for runner in self.fleet.runners.values():
            for stream in runner.output.readable:
                poll.register(stream.source, select.POLLIN)

    def read_signals(self, now: float) -> None:
        for number, sender in self.signals.read():
            if number == signal.SIGCHLD or system.is_from_within(sender, self.fleet.runners):
                continue
            if self.drain_until is None:
                self.begin_drain(now)
            elif number != signal.SIGTERM:
                self.fleet.exit_status = 128 + number
                return
            # Several managers may tell it to leave, and none of them means to cut its calls off.

    def begin_drain(self, now: float) -> None:
        self.drain_until = now + self.settings.drain_ms / 1000 + _DRAIN_GRACE_SECONDS
        self.fleet.drain(now)

    def reap(self, now: float) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.processes.reaped(pid)
                runner = self.fleet.runners.get(pid)
                if runner is not None:
                    self.fleet.on_exit(runner, wait_status, now)
                    self.processes.hurry()

    def end_drain_if_done(self, now: float) -> None:
        if self.drain_until is None or self.fleet.exit_status is not None:
            return
        if not self.fleet.runners or now >= self.drain_until:
            self.fleet.exit_status = 0
        elif not self.is_closed and not self.fleet.has_accepting():
            # Whoever waits would do so until the last calls of those that leave have ended.
            self.is_closed = True
            refuse_waiting(self.fleet.listener, worker_draining())

    def listen_again(self) -> None:
        """Handler code has shut the shared socket down, for every process that has it."""
        log("listener_shut_down")
        self.fleet.kill_all("It shut down the worker's listening socket.")
        if self.settings.socket_path is not None:
            self.fleet.listener.close()
            self.fleet.listener = listen(self.settings)
        else:
            self.fleet.listener.listen(BACKLOG)

    def end_everything(self) -> None:
        if self.fleet.exit_status == 0:
            refuse_waiting(self.fleet.listener, worker_draining())
        stop_listening(self.fleet.listener, self.settings)
        for runner in self.fleet.runners.values():
            runner.kill()
            runner.output.finish()
        for outlet in OUTLETS:
            outlet.flush(_LAST_SECONDS)
        for _ in range(_END_ROUNDS):
            for pid in system.children(os.getpid()):
                self.processes.kill(pid)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            select.select([self.signals.fd], [], [], 0.01)
            self.signals.read()
        self.fleet.leftovers.clear(_CLEARING_SECONDS)
