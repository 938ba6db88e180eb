"""`python -m faas_worker.layer_sweep <folder> <time> <start of a name>...`: removes layers that lie
in a folder which many pods share, but those whose names begin so and those used since that time, in
seconds since the epoch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys

#: On the way out: nobody looks for a name like that.
_LEAVING = ".leaving"
_MOST_SHOWN = 3


def sweep(root: str, before: float, kept: tuple[str, ...]) -> list[str]:
    """Answers what could not be removed."""
    left = []
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
        if os.path.lexists(leaving) or (os.path.lexists(path) and not is_younger(path, before)):
            left.append(name)
    return left


def is_younger(path: str, before: float) -> bool:
    try:
        return os.stat(path).st_mtime > before
    except OSError:
        return False


def main() -> int:
    # As the first process of a container it would not be ended by a signal otherwise.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    root, before, *kept = sys.argv[1:]
    left = sweep(root, float(before), tuple(kept)) if os.path.isdir(root) else []
    if left:
        shown = ", ".join(left[:_MOST_SHOWN])
        print(f"{len(left)} folders could not be removed: {shown}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
