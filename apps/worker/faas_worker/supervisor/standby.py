"""The first runner of a generic worker: set up already, it waits for what it is to run."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from ..pulse import NoticeBoard
from ..settings import Settings
from .runner_process import RunnerProcess, fork_runner
from .specialising import take_on


class Standby:
    def __init__(
        self, settings: Settings, listener: socket.socket, release_in_child: Callable[[], None]
    ) -> None:
        self.board = NoticeBoard()
        theirs, self._ours = os.pipe()

        def release() -> None:
            # Or it would wait for ever for a worker that is gone.
            os.close(self._ours)
            release_in_child()

        self._runner: RunnerProcess | None = None
        try:
            self._runner = fork_runner(settings, 1, listener, self.board, release, theirs)
        except OSError:
            pass  # Too many processes for now; there may be room when it is needed.
        finally:
            os.close(theirs)

    def hand_over(self, given: bytes) -> bool:
        """What `take_over` takes; false when it is gone."""
        try:
            with open(self._ours, "wb") as pipe:
                pipe.write(given)
        except OSError:
            return False
        return True

    @property
    def pids(self) -> set[int]:
        return set() if self._runner is None else {self._runner.pid}

    def leave_handing_over(self) -> None:
        """To a fork of this process: when that is gone, the runner need not wait any more."""
        os.close(self._ours)

    def runner(self, *, has_function: bool) -> RunnerProcess | None:
        """None when it is gone: another can be forked in its place."""
        runner = self._runner
        if runner is not None and has_function:
            runner.started = time.monotonic()
            return runner
        if runner is not None:
            runner.forget()
        return None


def take_over(descriptor: int) -> Settings:
    """In the runner: waits for the function, and takes on its environment."""
    with open(descriptor, "rb") as pipe:
        given = pipe.read()
    found = unpack(given)
    if found is None:
        # Not by an exit of its own: that would say that the function can't be loaded.
        os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit
    settings, environment = found
    take_on(environment)
    return settings


def pack(settings: Settings, environment: dict[str, str]) -> bytes:
    return pickle.dumps((settings, environment))


def unpack(given: bytes) -> tuple[Settings, dict[str, str]] | None:
    """None when it is not whole: whoever wrote it has ended."""
    try:
        found: Any = pickle.loads(given)
    except (EOFError, pickle.UnpicklingError):
        return None
    return found
