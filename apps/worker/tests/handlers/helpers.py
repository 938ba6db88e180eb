"""Handlers that start processes of their own, as sensible code does."""

import multiprocessing
import os
import subprocess
import sys
import time
from multiprocessing.util import spawnv_passfds


def square(number: int) -> int:
    return number * number


def terminate(_: str) -> int:
    process = subprocess.Popen(["sleep", "30"])
    time.sleep(0.05)
    process.terminate()
    return process.wait()


def terminate_fork(_: str) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


def pool(context: str) -> list[int]:
    with multiprocessing.get_context(context).Pool(2) as workers:
        return workers.map(square, range(5))


def spawn_and_leave(count: str) -> int:
    for _ in range(int(count)):
        spawnv_passfds(b"/bin/sleep", [b"sleep", b"60"], ())
    return int(count)


def fork_and_raise(how: str) -> int | None:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if how == "raise":
        raise ValueError("in the fork")
    if how == "exit 7":
        sys.exit(7)
    return None


async def fork_and_raise_async(how: str) -> int | None:
    return fork_and_raise(how)
