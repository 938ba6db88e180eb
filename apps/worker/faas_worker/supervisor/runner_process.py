"""The supervisor's side of one runner."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable

from ..pulse import NoticeBoard, Pulse
from ..settings import Settings
from .relaying import RunnerOutput
from .reports import EXIT_UNFIT
from .watching import State, Watch

_MESSAGE_BYTES = 65_536
_MESSAGES_PER_TURN = 8


class RunnerProcess:
    def __init__(
        self, number: int, pid: int, channel: socket.socket, pulse: Pulse, output: RunnerOutput
    ) -> None:
        self.number = number
        self.pid = pid
        self.channel = channel
        self.pulse = pulse
        self.output = output
        self.state: State = "loading"
        self.watch = Watch()
        self.started = time.monotonic()
        self.stuck: str | None = None
        self.surplus = False
        # It has kept what the next one may need.
        self.kept = False
        # Calls of it took too long, which says nothing of the worker.
        self.overdue = False
        # Its handler has made processes.
        self.forked = False
        # Calls of it wait to hear that what it has forked does not multiply.
        self.settling = False
        self.descendants = 0
        self.changed_at = 0.0
        self.end_by: float | None = None
        self.settles_at = 0.0
        self.load_report: bytes | None = None
        # Handler code may flood the channel; such a runner is read once per turn only.
        self.noisy = False
        self.deaf = False

    def order(self, message: bytes) -> None:
        with contextlib.suppress(OSError):
            self.channel.send(message)

    def messages(self) -> list[bytes]:
        received: list[bytes] = []
        self.noisy = False
        try:
            for _ in range(_MESSAGES_PER_TURN):
                message = self.channel.recv(_MESSAGE_BYTES)
                if not message:
                    self.deaf = True
                    return received
                received.append(message)
            self.noisy = True
        except BlockingIOError:
            pass
        except OSError:
            self.deaf = True
        return received

    def kill(self) -> None:
        """The runner and everything in its process group."""
        for send in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                send(self.pid, signal.SIGKILL)

    def forget(self) -> None:
        self.channel.close()
        self.pulse.close()
        self.output.close()

    def release_in_child(self) -> None:
        self.channel.close()
        self.output.close()


def fork_runner(
    settings: Settings,
    number: int,
    listener: socket.socket,
    board: NoticeBoard,
    release_in_child: Callable[[], None],
    handover: int | None = None,
) -> RunnerProcess:
    """Raises BlockingIOError when there may be no more processes.

    `handover`: where it is to read its function from, when it is not in the settings.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    pulse = Pulse()
    output = RunnerOutput()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        pulse.close()
        output.close()
        raise
    if pid == 0:
        try:
            from ..runner.runner import Runner

            ours.close()
            release_in_child()
            output.move_in()
            Runner(settings, number, listener, theirs, pulse, board, output.mark).run(handover)
        finally:
            os._exit(EXIT_UNFIT)
    theirs.close()
    output.leave_to_runner()
    return RunnerProcess(number, pid, ours, pulse, output)
