"""Whether a runner can still answer, whatever its handler has changed in it."""

from __future__ import annotations

import asyncio
import math
import os
import resource
import stat
import sys
from collections.abc import Callable
from typing import Any

from .app import PAYLOAD_REFUSED

_REQUEST = b"POST / HTTP/1.1\r\nHost: runner\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
_HEALTH = b"GET /health HTTP/1.1\r\nHost: runner\r\nConnection: close\r\n\r\n"
_STATUS = b"HTTP/1.1 %d " % PAYLOAD_REFUSED.status
_STREAMS = (0, 1, 2)
# Lowered by a call, they would fail the calls after it.
_LIMITS = tuple(
    getattr(resource, f"RLIMIT_{name}")
    for name in ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
)
# A trial takes one turn of the loop; but a handler may hold up that turn.
_TURNS = 3
# A call may break what a trial needs in the midst of it; but not time after time.
_SPOILT_TRIALS = 5


class Fitness:
    """Asked regularly; False is final."""

    def __init__(
        self,
        connect: Callable[[], asyncio.Protocol],
        repairs: Callable[[], int],
        listener: int,
        channel: int,
    ) -> None:
        """`repairs` counts what was broken and has been mended."""
        self._connect = connect
        self._repairs = repairs
        self._repairs_before = 0
        self._spoilt = 0
        self._own = {fd: _identity(fd) for fd in (listener, channel)}
        self._sockets = {fd: _is_socket(fd) for fd in _STREAMS}
        self._limits = {limit: resource.getrlimit(limit)[0] for limit in _LIMITS}
        #: Handler code has lowered some since they were looked at.
        self.limits_may_differ = False
        sys.addaudithook(self._on_event)
        self._trial: _Trial | None = None
        self._turns = 0

    def _on_event(self, event: str, arguments: Any) -> None:
        if event == "resource.prlimit" or (
            event == "resource.setrlimit" and self._lowers(arguments)
        ):
            self.limits_may_differ = True

    def _lowers(self, arguments: Any) -> bool:
        """A runner itself raises one for each thread that it starts."""
        try:
            limit, (soft, _) = arguments
            return bool(limit in self._limits and _size(soft) < _size(self._limits[limit]))
        except Exception:  # handler code may give anything
            return True

    def check(self) -> bool:
        return self._has_descriptors() and self._has_limits() and self._answers()

    @property
    def is_settled(self) -> bool:
        """Nothing was found, and nothing is still to come out."""
        return self._trial is not None and self._trial.is_right

    def puts_limits_back(self) -> bool:
        """False is final here, too."""
        self.limits_may_differ = False
        return self._has_limits()

    def stop(self) -> None:
        """Leaves no trial open: it would count as a connection of somebody's."""
        if self._trial is not None:
            self._trial.end()
            self._trial = None

    def _answers(self) -> bool:
        trial = self._trial
        if trial is not None:
            if not trial.written and self._turns + 1 < _TURNS:
                self._turns += 1
                return True
            if not self._may_go_on(trial.passed()):
                return False
        self._turns = 0
        self._repairs_before = self._repairs()
        self._trial = _Trial(self._connect())
        return True

    def _may_go_on(self, passed: bool) -> bool:
        if passed:
            self._spoilt = 0
            return True
        self._spoilt += 1
        return self._repairs() > self._repairs_before and self._spoilt <= _SPOILT_TRIALS

    def _has_descriptors(self) -> bool:
        """A socket in place of a closed stream would get what the handler prints."""
        return all(_identity(fd) == own for fd, own in self._own.items()) and all(
            _is_socket(fd) == was for fd, was in self._sockets.items()
        )

    def _has_limits(self) -> bool:
        for limit, most in self._limits.items():
            soft, hard = resource.getrlimit(limit)
            if _size(soft) >= _size(most):
                self._limits[limit] = soft
            elif _size(hard) >= _size(most):
                resource.setrlimit(limit, (most, hard))
            else:
                return False
        return True


async def warm_up(connect: Callable[[], asyncio.Protocol]) -> None:
    """What answers the first request has been used before: its memory is there, and its own."""
    for request in (_HEALTH, _REQUEST):
        trial = _Trial(connect(), request)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        trial.end()


class _Trial:
    """A request that a runner makes of itself, through all but the sockets."""

    def __init__(self, protocol: Any, request: bytes = _REQUEST) -> None:
        self.written = b""
        self._protocol = protocol
        protocol.connection_made(self)
        protocol.data_received(request)

    def end(self) -> None:
        self._protocol.connection_lost(None)

    def passed(self) -> bool:
        self.end()
        return self.is_right

    @property
    def is_right(self) -> bool:
        return self.written.startswith(_STATUS) and self.written.endswith(PAYLOAD_REFUSED.body)

    # What the protocol asks of its transport.

    def write(self, data: bytes) -> None:
        self.written += data

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


def _size(limit: int) -> float:
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _is_socket(fd: int) -> bool:
    return stat.S_ISSOCK(os.fstat(fd).st_mode)
