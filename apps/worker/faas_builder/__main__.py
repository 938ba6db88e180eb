"""`python -m faas_builder <folder>`: reads `in/job.json` there, and writes its result into `out`.

Lines on standard output are what is shown while it builds; `out/result.json` says how it ended. Of
a layer that is built the last line says so, once all of it is there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

from .build import Failed, build, tell
from .job import Job

_PR_SET_PDEATHSIG = 1


def main() -> int:
    folder = sys.argv[1]
    # Where it is a process of the manager's machine, it ends with its manager.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with open(os.path.join(folder, "in", "job.json"), encoding="utf-8") as file:
        job = Job.read(json.load(file), folder)
    # An index may hold credentials, and what is built may run code of its own.
    os.unlink(os.path.join(folder, "in", "job.json"))
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
    if result["status"] == "built":
        tell("Done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
