"""The first runner of a generic worker: set up already, it waits for what it is to run."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from .pulse import NoticeBoard
from .runner_process import RunnerProcess, fork_runner
from .settings import Settings
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

    def hand_over(self, settings: Settings, environment: Mapping[str, str]) -> RunnerProcess | None:
        """None when it is gone: another can be forked in its place."""
        runner = self._runner
        try:
            with open(self._ours, "wb") as pipe:
                pickle.dump((settings, dict(environment)), pipe)
        except OSError:
            if runner is not None:
                runner.forget()
            return None
        if runner is not None:
            runner.started = time.monotonic()
        return runner


def take_over(descriptor: int) -> Settings:
    """In the runner: waits for the function, and takes on its environment."""
    try:
        with open(descriptor, "rb") as pipe:
            given: Any = pickle.load(pipe)
    except EOFError:
        os._exit(0)
    settings, environment = given
    take_on(environment)
    return settings
