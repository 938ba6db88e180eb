"""Between two runners, while there is none: what those before have left does not meet the next."""

from __future__ import annotations

import math
import os

from ..runner.fullness import ContainerMemory
from ..settings import Settings
from .leftovers import Leftovers

# So much of a turn of the supervisor it may take, and so long in all.
_TURN_SECONDS = 0.1
_SECONDS = 3.0


class Clearing:
    def __init__(self, settings: Settings) -> None:
        self.leftovers = Leftovers(settings)
        self._memory = ContainerMemory(os.getpid() == 1)
        #: To be set to False when a runner has ended.
        self.is_done = True
        self._until = math.inf

    def goes_on(self, now: float) -> bool:
        """True when there is nothing more to do; to be asked again otherwise."""
        if not self.is_done:
            # Processes that are still dying may hold some memory.
            self.is_done = self.leftovers.clear(_TURN_SECONDS) and not self._memory.has_grown()
            self._until = math.inf if self.is_done else min(self._until, now + _SECONDS)
        return self.is_done

    def is_hopeless(self, now: float) -> bool:
        return now >= self._until
