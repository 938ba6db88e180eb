"""Handlers that start processes of their own, as sensible code does."""

import multiprocessing
import subprocess
import time


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
