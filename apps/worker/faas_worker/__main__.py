"""`python -m faas_worker`"""

from __future__ import annotations

import gc
import os
import pwd
import signal
import sys
import time
from collections.abc import MutableMapping

from .protocol import Exit
from .settings import SettingsError, read_settings
from .supervisor.listener import listen, stop_listening
from .system import SignalFile

_CLEARING_SECONDS = 5.0


def main() -> int:
    # What the loader takes out of the environment of a process that runs for another user.
    os.environ.update(dict(given.split("=", 1) for given in sys.argv[1:] if "=" in given))
    name_user(os.environ)
    try:
        settings = read_settings(os.environ)
        # Before the slow imports: a probe's connection waits in the backlog meanwhile.
        listener = listen(settings)
    except SettingsError as error:
        print(f"faas_worker: {error}", file=sys.stderr)
        return Exit.UNUSABLE
    except OSError as error:
        print(f"faas_worker: can't listen: {error}", file=sys.stderr)
        return Exit.NO_PLACE
    # The first process of a container has no other way to hear of one.
    signals = SignalFile({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
    # All that is imported stays, and looking again and again for what may go takes time.
    gc.disable()
    from .runner import runner  # noqa: F401 - so that every runner has it from the start
    from .supervisor.leftovers import Leftovers
    from .supervisor.supervisor import Supervisor
    from .system import stand_apart

    stand_apart()
    # Of a worker that was here before: a restarted container keeps some of its folders.
    Leftovers(settings).clear(_CLEARING_SECONDS)
    if settings.specialise_sha256 is not None:
        from .supervisor.specialiser import take_on, wait_for_function

        freeze()
        received = wait_for_function(settings, listener, signals)
        if isinstance(received, int):
            stop_listening(listener, settings)
            return received
        take_on(received.environment)
        freeze()
        supervisor = Supervisor(
            received.settings,
            listener,
            signals,
            received.notice,
            received.runner,
            received.oom,
        )
        if received.is_leaving:
            supervisor.begin_drain(time.monotonic())
        return supervisor.run()
    freeze()
    return Supervisor(settings, listener, signals).run()


def name_user(environ: MutableMapping[str, str]) -> None:
    """As a login does. A user that the machine has no entry for has a name, too."""
    try:
        found = pwd.getpwuid(os.geteuid())
        name, home = found.pw_name, found.pw_dir
    except KeyError:
        name, home = "faas", "/tmp"
    for variable, value in ("USER", name), ("LOGNAME", name), ("HOME", home):
        environ.setdefault(variable, value)


def freeze() -> None:
    """What is there now lives as long as the process; runners share its pages."""
    gc.collect()
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    sys.exit(main())
