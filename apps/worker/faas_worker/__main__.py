"""`python -m faas_worker`"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

from .settings import SettingsError, read_settings
from .supervisor.listener import listen, stop_listening

_CLEARING_SECONDS = 5.0


def main() -> int:
    # What the loader takes out of the environment of a process that runs for another user.
    os.environ.update(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
    try:
        settings = read_settings(os.environ)
        # Before the slow imports: a probe's connection waits in the backlog meanwhile.
        listener = listen(settings)
    except SettingsError as error:
        print(f"faas_worker: {error}", file=sys.stderr)
        return 64
    except OSError as error:
        print(f"faas_worker: can't listen: {error}", file=sys.stderr)
        return 71
    # All that is imported stays, and looking again and again for what may go takes time.
    gc.disable()
    from .runner import runner  # noqa: F401 - so that every runner has it from the start
    from .supervisor.leftovers import Leftovers
    from .supervisor.supervisor import Supervisor
    from .system import SignalFile, stand_apart

    stand_apart()
    # Of a worker that was here before: a restarted container keeps some of its folders.
    Leftovers(settings).clear(_CLEARING_SECONDS)
    signals = SignalFile({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
    if settings.specialise_sha256 is not None:
        from .supervisor.reception import wait_for_function
        from .supervisor.specialising import take_on
        from .supervisor.standby import Standby

        freeze()
        standby = Standby(settings, listener, signals.release_in_child)
        received = wait_for_function(settings, listener, signals, standby)
        if isinstance(received, int):
            stop_listening(listener, settings)
            return received
        take_on(received.environment)
        freeze()
        supervisor = Supervisor(
            received.settings, listener, signals, standby.board, received.runner
        )
        if received.is_leaving:
            supervisor.begin_drain(time.monotonic())
        return supervisor.run()
    freeze()
    return Supervisor(settings, listener, signals).run()


def freeze() -> None:
    """What is there now lives as long as the process; runners share its pages."""
    gc.collect()
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    sys.exit(main())
