"""`python -m faas_builder <folder>`: does the job on standard input, writes its result to `out`.

Lines on standard output are what is shown while it builds; `out/result.json` says how it ended. The
job is in no file and no argument: an index may hold credentials, and what is built may run code of
its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

from .build import Failed, build
from .job import Job

_PR_SET_PDEATHSIG = 1


def main() -> int:
    folder = sys.argv[1]
    # Where it is a process of the manager's machine, it ends with its manager.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    given = sys.stdin.read()
    if not given:
        # Whoever was to give it is gone.
        return 1
    job = Job.read(json.loads(given), folder)
    # Whatever becomes of whoever waits for it.
    signal.alarm(job.seconds)
    try:
        result = {"status": "built", **build(job)}
    except Failed as failed:
        result = {
            "status": "failed",
            "kind": failed.kind,
            "message": job.without_secrets(str(failed)),
        }
    except OSError as error:
        kind = "no_space" if error.errno == 28 else "failed"
        result = {"status": "failed", "kind": kind, "message": job.without_secrets(str(error))}
    path = os.path.join(folder, "out", "result.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
