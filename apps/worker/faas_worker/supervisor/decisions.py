"""What the supervisor decides, as functions of what it sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

State = Literal["loading", "serving", "retiring"]

MAX_RUNNERS = 3
TICK_SECONDS = 0.04
SILENCE_SECONDS = 0.15
RESTING_SILENCE_SECONDS = 1.5
MAX_SILENCE_SECONDS = 2.0
# A silent runner with nothing in flight may still hold requests it hasn't read.
IDLE_SILENCE_SECONDS = 1.0
OVERTIME_SECONDS = 0.1
_FREE_CRASHES = 3
_FIRST_DELAY_SECONDS = 0.05
_MAX_DELAY_SECONDS = 5.0
MOST_ALIKE = 5
_MOST_ALIKE_BY_ITSELF = 10
_LOAD_ATTEMPTS = 5
_FIRST_LOAD_PAUSE_SECONDS = 0.2
_LEAST_LOAD_LIMIT_SECONDS = 30.0


@dataclass(slots=True)
class Watch:
    """How long a runner has been silent, in time that the supervisor itself was awake for.

    A machine too busy to run the runner hardly runs the supervisor either; counting its own
    ticks, each up to a maximum, keeps that from looking like a stuck runner.
    """

    beat_ns: int = 0
    silent_seconds: float = 0.0
    silent: bool = False

    def observe(self, beat_ns: int, passed: float, tick: float) -> None:
        if beat_ns != self.beat_ns:
            self.beat_ns = beat_ns
            self.silent_seconds = 0.0
        else:
            self.silent_seconds += min(passed, 1.5 * tick)


@dataclass(slots=True)
class SilenceLimit:
    """How much silence this function's runners are allowed.

    Every false alarm doubles it: a handler that blocks its loop now and then is not worth a
    new process each time.
    """

    seconds: float = SILENCE_SECONDS
    last_alarm: float = 0.0

    def false_alarm(self, now: float) -> None:
        self.seconds = min(self.seconds * 2, MAX_SILENCE_SECONDS)
        self.last_alarm = now

    def at(self, now: float, resting: bool) -> float:
        if self.seconds > SILENCE_SECONDS and now - self.last_alarm > 60:
            self.seconds = SILENCE_SECONDS
        return max(self.seconds, RESTING_SILENCE_SECONDS) if resting else self.seconds


def start_delay(crashes: int) -> float:
    """Seconds before the next runner, after so many crashes without a good call between them."""
    if crashes <= _FREE_CRASHES:
        return 0.0
    doublings = min(crashes - _FREE_CRASHES - 1, 10)
    return min(_FIRST_DELAY_SECONDS * 2**doublings, _MAX_DELAY_SECONDS)


def end_by(now: float, in_flight: int, deadline: float, timeout: float) -> float:
    """When a runner that can't be talked to has to be gone.

    The figures come from memory that handler code can write to, hence the upper bound.
    """
    if in_flight == 0:
        return now + IDLE_SILENCE_SECONDS
    return min(max(deadline, now), now + timeout) + OVERTIME_SECONDS


@dataclass(slots=True)
class Failures:
    """Those in a row, without a good call between them, that were alike."""

    last: tuple[str, str] = ("", "")
    count: int = 0

    def add(self, failure: tuple[str, str], *, after_good: bool) -> None:
        self.count = 1 if after_good or failure != self.last else self.count + 1
        self.last = failure

    def are_too_many(self, *, of_the_worker: bool) -> bool:
        """`of_the_worker`: another may do better. A handler that ends its process by itself mostly
        does so in every worker; its next runner comes late anyway when that many have ended."""
        return self.count >= (MOST_ALIKE if of_the_worker else _MOST_ALIKE_BY_ITSELF)


@dataclass(slots=True)
class LoadHistory:
    """How loading the handler went so far."""

    first_seconds: float | None = None
    failures: int = 0

    @property
    def has_succeeded(self) -> bool:
        return self.first_seconds is not None

    def succeeded(self, seconds: float) -> None:
        self.failures = 0
        if self.first_seconds is None:
            self.first_seconds = seconds

    def failed(self, *, killed: bool = False) -> float | None:
        """Seconds until the next attempt; none when it was the last, or never went well.

        `killed` by SIGKILL, which may have come from outside: that alone says nothing of the
        handler, so it is loaded once more.
        """
        self.failures += 1
        if self.first_seconds is None:
            return 0.0 if killed and self.failures == 1 else None
        if self.failures >= _LOAD_ATTEMPTS:
            return None
        return _FIRST_LOAD_PAUSE_SECONDS * 2 ** (self.failures - 1)

    def limit_seconds(self) -> float:
        """The first load may take its time; a later one that takes far longer hangs."""
        if self.first_seconds is None:
            return math.inf
        return max(_LEAST_LOAD_LIMIT_SECONDS, 5 * self.first_seconds)
