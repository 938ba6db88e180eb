"""`python -m faas_worker.layer_sweep <folder> <seconds> <start of a name>...`: removes layers that
lie in a folder which many pods share, but those whose names begin so and those used in the last
seconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

#: On the way out: nobody looks for a name like that.
_LEAVING = ".leaving"


def sweep(root: str, young: float, kept: tuple[str, ...]) -> None:
    before = time.time() - young
    # Drafts of pods that were killed have names that are longer, and nobody keeps those.
    for name in os.listdir(root):
        path = os.path.join(root, name)
        is_kept = name.startswith(kept) and "." not in name
        if is_kept or is_younger(path, before):
            continue
        leaving = path if name.endswith(_LEAVING) else path + _LEAVING
        with contextlib.suppress(OSError):
            os.rename(path, leaving)
            # Somebody may have begun to use it since it was looked at.
            if is_younger(leaving, before):
                os.rename(leaving, path)
                continue
        shutil.rmtree(leaving, ignore_errors=True)


def is_younger(path: str, before: float) -> bool:
    try:
        return os.stat(path).st_mtime > before
    except OSError:
        return False


def main() -> int:
    # As the first process of a container it would not be ended by a signal otherwise.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    root, young, *kept = sys.argv[1:]
    if os.path.isdir(root):
        sweep(root, float(young), tuple(kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())
