"""`python -m faas_builder.cache <uv> <folder> <bytes>`: empties a cache that holds more than that.

uv itself waits until no build is at work with it, here no longer than a moment: the end of that
build has it tried again.
"""

from __future__ import annotations

import subprocess
import sys

from .sizes import size_of

_LOCK_SECONDS = 5


def main() -> int:
    uv, folder, most = sys.argv[1:]
    size = size_of(folder)
    if size <= int(most):
        return 0
    environment = {
        "HOME": folder,
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": folder,
        "UV_LOCK_TIMEOUT": str(_LOCK_SECONDS),
    }
    # uv minds being inside of what it removes.
    cleaning = subprocess.run(
        [uv, "cache", "clean"],
        env=environment,
        cwd="/",
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    sys.stderr.write(cleaning.stderr)
    is_in_use = "waiting for lock" in cleaning.stderr
    return 0 if is_in_use else cleaning.returncode


if __name__ == "__main__":
    sys.exit(main())
