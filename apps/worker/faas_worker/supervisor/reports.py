"""How a runner ended, in the words of `/health` and of the worker's log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Literal

from ..protocol import Exit, Reason
from .output import STDERR

_AT_ONCE_SECONDS = 0.5

Ending = Literal["out_of_memory", "signal", "exit", "stuck"]


@dataclass(frozen=True, slots=True)
class LastExit:
    runner: int
    reason: Ending
    message: str

    def encode(self) -> bytes:
        return json.dumps(asdict(self) | {"at": datetime.now(UTC).isoformat()}).encode()


def explain_exit(runner: int, wait_status: int, stuck: str | None, out_of_memory: bool) -> LastExit:
    """`stuck` is why it took no new calls, where that was its handler's doing."""
    if stuck is not None:
        return LastExit(runner, "stuck", stuck)
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        if out_of_memory and number == signal.SIGKILL:
            message = "The function used more memory than it may; its process was ended."
            return LastExit(runner, "out_of_memory", message)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return LastExit(runner, "signal", f"The function's process was ended by {name}.")
    code = os.waitstatus_to_exitcode(wait_status)
    if code == Exit.UNFIT:
        return LastExit(runner, "stuck", Reason.DAMAGED)
    return LastExit(runner, "exit", f"The function's process exited with status {code}.")


class OomCounter:
    """How often the kernel has killed in our cgroup (version 1 or 2) for want of memory."""

    def __init__(self) -> None:
        self._files = _candidates()
        self._seen = self.read()
        self._grown_at = -_AT_ONCE_SECONDS

    def has_grown(self) -> bool:
        """Asked without an effect on the next answer."""
        return self.read() > self._seen

    def grew(self) -> bool:
        """Also for a moment after: of two that were killed at once, the second may be found when
        both are counted."""
        count, now = self.read(), monotonic()
        if count > self._seen:
            self._seen, self._grown_at = count, now
        return now < self._grown_at + _AT_ONCE_SECONDS

    def read(self) -> int:
        for path in self._files:
            with contextlib.suppress(OSError, ValueError), open(path) as file:
                for line in file:
                    key, _, value = line.partition(" ")
                    if key == "oom_kill":
                        return int(value)
        return 0


def _candidates() -> list[str]:
    own: list[str] = []
    with contextlib.suppress(OSError), open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers == "":
                own.append(f"/sys/fs/cgroup{path}/memory.events")
            elif "memory" in controllers.split(","):
                own.append(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
    # Inside a container the paths above may be the host's; its own group is the root then.
    return [
        *own,
        "/sys/fs/cgroup/memory.events",
        "/sys/fs/cgroup/memory/memory.oom_control",
    ]


def log(event: str, **fields: object) -> None:
    write_line(json.dumps({"faas": event, **fields}).encode(), seconds=0)


def write_line(line: bytes, seconds: float) -> None:
    """To stderr, without ever waiting longer than this for its reader."""
    # There is room left that nothing of what handlers print gets.
    if not STDERR.is_stuck:
        STDERR.put(line + b"\n")
    STDERR.flush(seconds)
