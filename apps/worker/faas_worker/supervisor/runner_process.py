"""The supervisor's side of one runner."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..protocol import MESSAGE_BYTES, Exit, Heartbeat, Notice, Order, pack
from ..settings import Settings
from ..system import descendants, private_bytes
from .decisions import State, Watch
from .output import RunnerOutput

_MESSAGES_PER_TURN = 8


@dataclass(eq=False)
class RunnerProcess:
    number: int
    pid: int
    channel: socket.socket
    heartbeat: Heartbeat
    output: RunnerOutput
    state: State = "loading"
    watch: Watch = field(default_factory=Watch)
    started: float = field(default_factory=time.monotonic)
    #: Why it takes no new calls, where that is its handler's doing.
    reason: str | None = None
    #: It goes because another serves: nobody need be told.
    surplus: bool = False
    #: Its handler has made processes.
    forked: bool = False
    out_of_memory: bool = False
    #: It is ended at the first of these times, and not before the second.
    end_by: float | None = None
    settles_at: float = 0.0
    load_report: str | None = None
    #: Handler code may flood the channel; such a runner is read once per turn only.
    noisy: bool = False
    deaf: bool = False

    def order(self, order: Order) -> None:
        with contextlib.suppress(OSError):
            self.channel.send(pack(order))

    def messages(self) -> list[bytes]:
        received: list[bytes] = []
        self.noisy = False
        try:
            for _ in range(_MESSAGES_PER_TURN):
                message = self.channel.recv(MESSAGE_BYTES)
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

    def used_bytes(self) -> int:
        """Of memory, by whichever process uses most: what it has forked shares much with it."""
        started = descendants(self.pid) if self.forked else []
        return max(map(private_bytes, [self.pid, *started]))

    def kill(self) -> None:
        """The runner and everything in its process group."""
        for send in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                send(self.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Of this process, or of a copy of it that is another runner."""
        self.channel.close()
        self.output.close()


def fork_runner(
    settings: Settings,
    number: int,
    listener: socket.socket,
    notice: Notice,
    release_in_child: Callable[[], None],
    function: Callable[[socket.socket], Settings] | None = None,
) -> RunnerProcess:
    """Raises BlockingIOError when there may be no more processes.

    `function`: waits, in the runner, for the function that is not in the settings yet.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    heartbeat = Heartbeat.shared()
    output = RunnerOutput()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        output.close()
        raise
    if pid == 0:
        try:
            from ..runner.runner import Runner

            ours.close()
            release_in_child()
            output.move_in()
            runner = Runner(settings, number, listener, theirs, heartbeat, notice, output.mark)
            runner.run(function)
        finally:
            os._exit(Exit.UNFIT)
    theirs.close()
    output.leave_to_runner()
    return RunnerProcess(number, pid, ours, heartbeat, output)
