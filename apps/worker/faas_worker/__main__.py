"""`python -m faas_worker`"""

from __future__ import annotations

import gc
import os
import sys

from .listener import listen
from .settings import SettingsError, read_settings


def main() -> int:
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
    from . import runner  # noqa: F401 - so that every runner has it from the start
    from .supervisor import Supervisor

    # What is there now lives as long as the process; runners share its pages.
    gc.collect()
    gc.freeze()
    return Supervisor(settings, listener).run()


if __name__ == "__main__":
    sys.exit(main())
